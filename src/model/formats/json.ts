// JSON files beside the weights: read with a limit, parsed, and decoded by a schema; failures name the file and the field.
import { readFileSync, statSync } from "node:fs"
import { Result, Schema } from "effect"
import { ModelCorrupt, ModelUnreadable } from "../errors.ts"

const MAX_BYTES = 128 * 2 ** 20 // the largest tokenizer.json in use has some 35 MB

const MAX_REASON = 400 // characters; a failure quotes the value that it is about

/** Null if there is no such file. */
export const readText = (file: string): string | null => {
  try {
    const { size } = statSync(file)
    if (size > MAX_BYTES) throw new ModelUnreadable({ file, reason: `${size} bytes are more than such a file has` })
    return readFileSync(file, "utf8")
  } catch (error) {
    if (error instanceof ModelUnreadable) throw error
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null
    throw new ModelUnreadable({ file, reason: error instanceof Error ? error.message : String(error) })
  }
}

/** Null if there is no such file. */
export const readJson = <S extends Schema.Decoder<unknown>>(file: string, schema: S): S["Type"] | null => {
  const text = readText(file)
  return text === null ? null : decodeJson(file, text, schema)
}

/** Decodes a JSON text, or a value that was parsed already. */
export const decodeJson = <S extends Schema.Decoder<unknown>>(file: string, json: unknown, schema: S): S["Type"] => {
  const decoded = Schema.decodeUnknownResult(schema)(typeof json === "string" ? parse(file, json) : json)
  if (Result.isFailure(decoded)) {
    const reason = decoded.failure.message.replaceAll(/\s*\n\s*/g, " ")
    throw new ModelCorrupt({ file, reason: reason.slice(0, MAX_REASON) })
  }
  return decoded.success
}

const MAX_SHOWN = 80 // characters

/** A value of a file for a message: short, and whatever it is. */
export const shown = (value: unknown): string => {
  if (typeof value === "string")
    return JSON.stringify(value.length > MAX_SHOWN ? `${value.slice(0, MAX_SHOWN)}...` : value)
  if (Array.isArray(value)) return "a list"
  return typeof value === "object" && value !== null ? "an object" : String(value)
}

const parse = (file: string, text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new ModelCorrupt({ file, reason: `no valid JSON: ${error instanceof Error ? error.message : String(error)}` })
  }
}
