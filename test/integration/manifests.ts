// Kubernetes manifests against Kubernetes' own schemas, strictly: a field that no schema knows is one misspelt.
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { parseAllDocuments } from "yaml"

export interface Manifest {
  readonly file: string
  readonly apiVersion: string
  readonly kind: string
  readonly content: Readonly<Record<string, unknown>>
}

export const manifestsIn = (folder: string): ReadonlyArray<Manifest> =>
  readdirSync(folder).flatMap((file) =>
    parseAllDocuments(readFileSync(join(folder, file), "utf8")).map((document) => {
      if (document.errors.length > 0) throw new Error(`${file}: ${document.errors.join("; ")}`)
      const content = document.toJS()
      return { file, apiVersion: `${content.apiVersion}`, kind: `${content.kind}`, content }
    }),
  )

/** What is wrong with it, by path. */
export const faultsOf = async ({ apiVersion, kind, content }: Manifest): Promise<ReadonlyArray<string>> => {
  const { [kind]: Model } = await import(/* @vite-ignore */ `kubernetes-models/${apiVersion}`)
  if (Model === undefined) return [`kind: ${apiVersion} has no ${kind}`]
  const read = new Set<string>()
  const model = watch(Object.assign(new Model(), content), "", read)
  try {
    model.validate()
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)]
  }
  return fieldsOf(content, "").filter((path) => !read.has(path))
}

/** A validator looks at each field that it knows, so what it never looked at is none. */
const watch = <A>(value: A, path: string, read: Set<string>): A => {
  if (typeof value !== "object" || value === null) return value
  const seen = (key: string | symbol): string => `${path}/${String(key)}`
  return new Proxy(value, {
    get: (target, key) => {
      read.add(seen(key))
      return watch(Reflect.get(target, key), seen(key), read)
    },
    ownKeys: (target) => {
      const keys = Reflect.ownKeys(target) // a map of the user's: labels, limits
      for (const key of keys) read.add(seen(key))
      return keys
    },
  })
}

const fieldsOf = (value: unknown, path: string): ReadonlyArray<string> =>
  typeof value === "object" && value !== null
    ? Object.entries(value).flatMap(([key, inner]) => [`${path}/${key}`, ...fieldsOf(inner, `${path}/${key}`)])
    : []
