// The models folder: GGUF files and Hugging Face folders that were put there, and below OWNER/NAME those of the hub. A name
// on the command line or in a deployment's file is a path first, then a model of this folder, then one of the hub.
import { existsSync, readdirSync, statSync } from "node:fs"
import { homedir } from "node:os"
import { basename, dirname, isAbsolute, join, resolve } from "node:path"
import { Effect } from "effect"
import { ModelAmbiguous, ModelNotFound } from "./errors.ts"
import { isModelFile, ofQuant, quantOf, type RepositoryName, repositoryName } from "./name.ts"

/** CHORUS_MODELS_DIR, by default chorus/models in the user's cache folder. */
export const modelsFolder = (environment: NodeJS.ProcessEnv): string =>
  resolve(
    environment.CHORUS_MODELS_DIR || join(environment.XDG_CACHE_HOME || join(homedir(), ".cache"), "chorus/models"),
  )

export interface StoredModel {
  readonly name: string // by which it is found
  readonly path: string
  readonly bytes: number | null // of a file
}

/** What is complete; what is being brought lies in a folder whose name begins with a dot. */
export const storedModels = (folder: string): ReadonlyArray<StoredModel> => [
  ...modelsIn(folder, ""),
  ...foldersIn(folder).flatMap((owner) =>
    foldersIn(join(folder, owner)).flatMap((name) => {
      const repository = join(folder, owner, name)
      return [...modelOf(repository, `${owner}/${name}`), ...filesOf(repository, `${owner}/${name}:`)]
    }),
  ),
]

const modelsIn = (folder: string, prefix: string): ReadonlyArray<StoredModel> => [
  ...filesOf(folder, prefix),
  ...foldersIn(folder).flatMap((name) => modelOf(join(folder, name), `${prefix}${name}`)),
]

const modelOf = (path: string, name: string): ReadonlyArray<StoredModel> =>
  existsSync(join(path, "config.json")) ? [{ name, path, bytes: null }] : []

const filesOf = (folder: string, prefix: string): ReadonlyArray<StoredModel> =>
  entriesIn(folder)
    .filter((file) => isModelFile(file) && !file.startsWith("."))
    .map((file) => {
      const path = join(folder, file)
      return { name: `${prefix}${prefix === "" ? file : quantOf(file)}`, path, bytes: statSync(path).size }
    })

const foldersIn = (folder: string): ReadonlyArray<string> =>
  entriesIn(folder).filter((name) => !name.startsWith(".") && statSync(join(folder, name)).isDirectory())

const entriesIn = (folder: string): ReadonlyArray<string> => {
  try {
    return readdirSync(folder).filter((name) => existsSync(join(folder, name))) // not links that lead nowhere
  } catch {
    return []
  }
}

/** A model that is here, by its path, or one that only the hub may have. */
export type Located =
  | { readonly _tag: "Here"; readonly path: string }
  | { readonly _tag: "Elsewhere"; readonly name: RepositoryName }

/** `from` is the folder that paths begin in. */
export const locate = (
  text: string,
  { from, models }: { readonly from: string; readonly models: string },
): Effect.Effect<Located, ModelNotFound | ModelAmbiguous> =>
  Effect.suspend((): Effect.Effect<Located, ModelNotFound | ModelAmbiguous> => {
    const path = resolve(from, text)
    const here = (found: string) => Effect.succeed<Located>({ _tag: "Here", path: found })
    // What is written as a path is a path: opening it says what is wrong with it.
    if (existsSync(path) || isAbsolute(text) || /^\.{1,2}\//.test(text)) return here(path)
    const [only, ...others] = candidates(text, models)
    if (others.length > 0) {
      return Effect.fail(new ModelAmbiguous({ name: text, choices: [only, ...others].map((one) => one?.name ?? "") }))
    }
    if (only !== undefined) return here(only.path)
    const name = repositoryName(text)
    const written = name !== null && existsSync(resolve(from, dirname(text))) // a path with a slip at its end
    if (name !== null && !written) return Effect.succeed({ _tag: "Elsewhere", name })
    return Effect.fail(new ModelNotFound({ name: text, looked: [path, join(models, text)] }))
  })

/** Models of the folder that a name may mean. */
const candidates = (text: string, folder: string): ReadonlyArray<StoredModel> => {
  const stored = storedModels(folder)
  const exact = stored.filter(({ name }) => name === text)
  if (exact.length > 0) return exact
  const name = repositoryName(text)
  if (name === null) return stored.filter(({ path }) => basename(path) === text)
  const files = stored.filter(({ path, bytes }) => bytes !== null && dirname(path) === join(folder, name.repository))
  if (name.quant === null) return files
  const wanted = ofQuant(
    files.map(({ path }) => path),
    name.quant,
  )
  return files.filter(({ path }) => wanted.includes(path))
}
