// What a request is answered with.
import type { Reply } from "../bus/bus.ts"
import { particularsOf } from "../generation/history.ts"
import type { GenerateRequest } from "../generation/request.ts"
import { LogFailed } from "../store/append.ts"
import { codec } from "../wire/codec.ts"
import { AnswerTooLarge, type InferError, SessionFailed, StorageRefused } from "../wire/errors.ts"
import { type Answer, InferAnswer } from "../wire/infer.ts"
import { ReadAnswer } from "../wire/read.ts"

const answers = codec("infer answer", InferAnswer)
const reads = codec("read answer", ReadAnswer)

export const accepted = (request: GenerateRequest, subject: string): Reply => ({
  bytes: answers.encode({ _tag: "Accepted", session: request.session, subject, ...particularsOf(request) }),
})

/** The whole answer, or where it is to be found if it is more than a message may have. */
export const answered = (request: GenerateRequest, answer: Answer, limit: number): Reply => {
  const { session } = request
  const bytes = answers.encode({ _tag: "Answered", session, ...particularsOf(request), ...answer })
  if (bytes.byteLength <= limit) return { bytes }
  return refusal(new AnswerTooLarge({ session, bytes: bytes.byteLength, limit }))
}

/** Of a session that is not begun, or has come to nothing: a storage that refuses says so itself. */
export const failureOf =
  (session: string) =>
  (error: Error): SessionFailed | StorageRefused => {
    if (error instanceof StorageRefused) return error
    if (error instanceof LogFailed && error.refused !== undefined) return error.refused
    return new SessionFailed({ session, reason: error.message })
  }

/** To a reader whose session has ended, and whose log does not take its end. */
export const notRead = (refused: StorageRefused): Uint8Array =>
  reads.encode({ _tag: "NotRead", reason: refused.message, refused })

export const refusal = (error: InferError): Reply => ({
  bytes: answers.encode({ _tag: "Refused", error }),
  refused: { code: CODES[error._tag] ?? 500, reason: error._tag },
})

/** HTTP's codes, as the services protocol has them: 500 for what is not the asker's affair. */
const CODES: Readonly<Record<string, number>> = {
  ...{ MalformedMessage: 400, InvalidRequest: 400, ContextExceeded: 400, AnswerTooLarge: 413 },
  ...{
    Overloaded: 429,
    ClientLimited: 429,
    Cancelled: 499,
    GroupSilent: 503,
    NoPlacement: 503,
    ActivationFailed: 503,
    StorageRefused: 503,
    UnknownDeployment: 404,
  },
}
