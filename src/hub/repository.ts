// What a repository of the Hugging Face hub holds, and which of its files make a model that Chorus opens: one GGUF file, or
// a folder of safetensors with the files that describe it.
import { HubApiError, listFiles, modelInfo } from "@huggingface/hub"
import { Effect } from "effect"
import { PullFailed } from "./errors.ts"
import { isModelFile, ofQuant, partsOf, quantOf, type RepositoryName } from "./name.ts"

/** Where the hub is, and as which user to ask: HF_ENDPOINT and HF_TOKEN, as Hugging Face's own tools have them. */
export interface Hub {
  readonly hubUrl: string
  readonly accessToken?: string
}

const HUB = "https://huggingface.co"

export const hubOf = ({ HF_ENDPOINT, HF_TOKEN }: NodeJS.ProcessEnv): Hub => ({
  hubUrl: (HF_ENDPOINT || HUB).replace(/\/+$/, ""),
  ...(HF_TOKEN ? { accessToken: HF_TOKEN } : {}),
})

export interface RemoteFile {
  readonly path: string // in the repository
  readonly bytes: number
  readonly digest: { readonly algorithm: "sha256" | "git"; readonly hex: string } // of large files, of small ones
}

/** What is to be brought. */
export interface Selection {
  readonly repository: string
  readonly revision: string // a commit: what is uploaded meanwhile does not mix with it
  readonly files: ReadonlyArray<RemoteFile>
}

/** Asks the hub which files a name stands for. */
export const select = Effect.fn("hub.select")(function* ({ repository, quant }: RepositoryName, hub: Hub) {
  const refuse = (reason: string) => new PullFailed({ repository, reason })
  const { revision, files } = yield* Effect.tryPromise({
    try: (signal) => listing(repository, hub, signal),
    catch: (error) => refuse(reasonOf(error, hub, repository)),
  })
  const models = files.filter(({ path }) => isModelFile(path))
  if (quant !== null) {
    const wanted = ofQuant(
      models.map(({ path }) => path),
      quant,
    )
    if (wanted.length === 0) return yield* refuse(`has no GGUF file of ${quant}. ${choiceOf(repository, models)}`)
    return yield* whole(wanted)
  }
  const folder = folderOf(files)
  if (folder !== null) return { repository, revision, files: folder } satisfies Selection
  const kinds = new Set(models.map(({ path }) => quantOf(path)))
  if (kinds.size === 1) return yield* whole(models.map(({ path }) => path))
  return yield* refuse(models.length > 0 ? choiceOf(repository, models) : NOTHING)

  function* whole(paths: ReadonlyArray<string>) {
    const parts = Math.max(...paths.map(partsOf))
    if (parts > 1) return yield* refuse(`${paths[0]} is one of ${parts} files: ${SPLIT}`)
    if (paths.length > 1) return yield* refuse(`several files are of ${quant}: ${paths.join(", ")}`)
    return { repository, revision, files: files.filter(({ path }) => paths.includes(path)) } satisfies Selection
  }
})

const SPLIT =
  "a model that is split into several GGUF files is not read. Choose another quantisation, or join its files"
const NOTHING = "holds no model that Chorus reads: neither config.json with model.safetensors, nor a GGUF file"

const listing = async (repository: string, hub: Hub, signal: AbortSignal) => {
  const asking = {
    ...hub,
    fetch: (url: Parameters<typeof fetch>[0], init?: RequestInit) => fetch(url, { ...init, signal }),
  }
  const { sha } = await modelInfo({ ...asking, name: repository, additionalFields: ["sha"] })
  const entries = await Array.fromAsync(listFiles({ ...asking, repo: repository, revision: sha, recursive: true }))
  const files = entries.flatMap(({ type, path, size, oid, lfs }): ReadonlyArray<RemoteFile> => {
    if (type !== "file" || !isPlain(path)) return []
    if (lfs !== undefined) return [{ path, bytes: lfs.size, digest: { algorithm: "sha256", hex: lfs.oid } }]
    return oid === undefined ? [] : [{ path, bytes: size, digest: { algorithm: "git", hex: oid } }]
  })
  return { revision: sha, files }
}

/** What may become a file's name here: nothing that leads out of a folder. */
const isPlain = (path: string): boolean =>
  path.split("/").every((part) => /^[^\0\\]+$/.test(part) && !part.startsWith("."))

/** What describes a model: its shape, its tokens, its chat template, how it likes to be sampled. */
const DESCRIPTIONS =
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template)\.json$|^merges\.txt$|^chat_template\.jinja$/

/** Null where there is none. Of weights that are there twice, those that are opened. */
const folderOf = (files: ReadonlyArray<RemoteFile>): ReadonlyArray<RemoteFile> | null => {
  const named = (pattern: RegExp) => files.filter(({ path }) => pattern.test(path))
  const single = named(/^model\.safetensors$/)
  const weights = single.length > 0 ? single : named(/^model(-\d{5}-of-\d{5}\.safetensors|\.safetensors\.index\.json)$/)
  if (weights.length === 0 || named(/^config\.json$/).length === 0) return null
  return [...named(DESCRIPTIONS), ...weights]
}

/** The GGUF files of a repository, each as it would be asked for. */
const choiceOf = (repository: string, models: ReadonlyArray<RemoteFile>): string => {
  const bytes = new Map<string, number>()
  for (const { path, bytes: more } of models) bytes.set(quantOf(path), (bytes.get(quantOf(path)) ?? 0) + more)
  if (bytes.size === 0) return "It has no GGUF files at all"
  const listed = [...bytes].map(([quant, size]) => `${repository}:${quant} (${gibibytes(size)})`)
  return `Choose one of ${listed.join(", ")}`
}

const gibibytes = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(2)} GiB`

/** What the hub said, or that it said nothing. */
export const reasonOf = (error: unknown, { hubUrl, accessToken }: Hub, repository: string): string => {
  const words = error instanceof Error ? error.message : String(error)
  if (!(error instanceof HubApiError)) return `cannot reach ${hubUrl}: ${causeOf(error) ?? words}`
  const page = `${hubUrl}/${repository}`
  switch (error.statusCode) {
    case 401:
      return accessToken === undefined
        ? `${hubUrl} does not show it without a token: there is no model of this name, or it is private, or gated. Check the name; for a gated one ask at ${page}, and put your token into HF_TOKEN. It said: ${words}`
        : `${hubUrl} does not take the token of HF_TOKEN. It said: ${words}`
    case 403:
      return `it is gated, and not yet open to the owner of HF_TOKEN: ask at ${page}. ${hubUrl} said: ${words}`
    case 404:
      return `${hubUrl} has no model of this name. It said: ${words}`
    default:
      return `${hubUrl} answered ${error.statusCode}: ${words}`
  }
}

const causeOf = (error: unknown): string | undefined =>
  error instanceof Error && error.cause instanceof Error ? error.cause.message : undefined
