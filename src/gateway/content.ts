// The bytes of a request's body, unpacked where they are compressed. What they unpack to is bounded while it comes, so a small
// body that would unpack to gigabytes is refused after as much as a large one.
import type { Readable, Transform } from "node:stream"
import { constants, createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from "node:zlib"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { Effect } from "effect"
import { type HttpServerError, HttpServerRequest } from "effect/http"
import { type ApiError, apiError } from "./errors.ts"
import { Options } from "./options.ts"

/** A window of 8 MiB is the most that senders over HTTP may ask for (RFC 9659). */
const ZSTD = { params: { [constants.ZSTD_d_windowLogMax]: 23 } }

const UNPACKERS: Readonly<Record<string, () => Transform>> = {
  gzip: () => createGunzip(),
  "x-gzip": () => createGunzip(),
  deflate: () => createInflate(),
  br: () => createBrotliDecompress(),
  zstd: () => createZstdDecompress(ZSTD),
}

/** Of the request at hand. */
export const content: Effect.Effect<Uint8Array, ApiError, HttpServerRequest.HttpServerRequest | Options> = Effect.gen(
  function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const { bodyLimit } = yield* Options
    const { "content-encoding": encoding = "identity", "content-length": length } = request.headers
    if (Number(length) > bodyLimit) return yield* tooLarge(bodyLimit)
    const name = encoding.trim().toLowerCase()
    if (name === "identity" || name === "") {
      const bytes = request.arrayBuffer.pipe(Effect.provideService(HttpServerRequest.MaxBodySize, BigInt(bodyLimit)))
      return new Uint8Array(yield* Effect.mapError(bytes, (error) => refusalOf(error, bodyLimit)))
    }
    const unpacker = Object.hasOwn(UNPACKERS, name) ? UNPACKERS[name] : undefined
    if (unpacker === undefined) {
      const known = Object.keys(UNPACKERS).join(", ")
      const reason = `the body is compressed in a way that is not known here. Send it as it is, or as ${known}`
      return yield* apiError(415, "unsupported_encoding", reason)
    }
    return yield* unpacked(NodeHttpServerRequest.toIncomingMessage(request), unpacker(), bodyLimit)
  },
)

/** The source is left open whatever happens: its connection takes the refusal. Where it breaks off, the request is interrupted. */
const unpacked = (source: Readable, unpacker: Transform, limit: number): Effect.Effect<Uint8Array, ApiError> =>
  Effect.callback((resume) => {
    const pieces: Array<Uint8Array> = []
    let [packed, bytes] = [0, 0]
    const end = (result: Effect.Effect<Uint8Array, ApiError>): void => {
      leave()
      resume(result)
    }
    const counting = (piece: Uint8Array): void => {
      packed += piece.byteLength
      if (packed > limit) end(Effect.fail(tooLarge(limit)))
    }
    const leave = (): void => {
      source.off("data", counting).unpipe(unpacker).resume()
      unpacker.removeAllListeners("data").destroy()
    }
    unpacker.on("data", (piece: Uint8Array) => {
      bytes += piece.byteLength
      if (bytes > limit) end(Effect.fail(tooLarge(limit)))
      else pieces.push(piece)
    })
    unpacker.once("end", () => end(Effect.succeed(Buffer.concat(pieces))))
    unpacker.on("error", ({ message }) => end(Effect.fail(unreadable(`it cannot be unpacked: ${message}`))))
    source.on("data", counting).pipe(unpacker)
    return Effect.sync(leave)
  })

export const unreadable = (reason: string): ApiError =>
  apiError(400, "invalid_json", `the body is not JSON in UTF-8: ${reason}`)

const tooLarge = (bytes: number): ApiError =>
  apiError(413, "body_too_large", `the body has more than ${bytes} bytes, this gateway's limit. Send less.`)

const refusalOf = ({ reason }: HttpServerError.HttpServerError, limit: number): ApiError =>
  reason._tag === "RequestParseError" && reason.reason === "BodyTooLarge"
    ? tooLarge(limit)
    : unreadable("it ended too early")
