// API keys. A gateway keeps their hashes alone, and compares all of them in constant time, so neither its memory nor its
// answers' timing nor its logs tell one.
import { createHash, timingSafeEqual } from "node:crypto"

export interface ApiKey {
  readonly name: string // whose it is, for limits and metrics
  readonly hash: Uint8Array
}

/** A key a line, or a name and a key; # begins a comment. */
export const parseKeys = (text: string): ReadonlyArray<ApiKey> =>
  text
    .split(/\r?\n/)
    .map((line) => line.replace(/#.*$/, "").trim())
    .filter((line) => line !== "")
    .map((line) => {
      const [first = "", second] = line.split(/\s+/)
      const hash = hashOf(second ?? first)
      return { name: second === undefined ? `key-${Buffer.from(hash).toString("hex").slice(0, 8)}` : first, hash }
    })

/** The key that an authorization header gives, if it is one of these. */
export const keyOf = (keys: ReadonlyArray<ApiKey>, authorization: string | undefined): ApiKey | undefined =>
  keyThatIs(keys, /^Bearer\s+(\S+)\s*$/i.exec(authorization ?? "")?.[1] ?? "")

/** The one of these that was given. */
export const keyThatIs = (keys: ReadonlyArray<ApiKey>, text: string): ApiKey | undefined => {
  const given = hashOf(text)
  return keys.reduce<ApiKey | undefined>((found, key) => (timingSafeEqual(key.hash, given) ? key : found), undefined)
}

const hashOf = (key: string): Uint8Array => createHash("sha256").update(key).digest()
