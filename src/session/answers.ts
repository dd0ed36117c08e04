// What a request is answered with.
import type { Reply } from "../bus/services.ts"
import type { GenerateRequest } from "../generation/state.ts"
import { codec } from "../wire/codec.ts"
import { AnswerTooLarge, type InferError } from "../wire/errors.ts"
import { type Answer, InferAnswer } from "../wire/infer.ts"

const answers = codec("infer answer", InferAnswer)

export const accepted = (request: GenerateRequest, subject: string): Reply => ({
  bytes: answers.encode({ _tag: "Accepted", session: request.session, subject, ...begun(request) }),
})

/** What is told of a session that begins, in the answer and in its log. */
export const begun = ({ prompt, sampling }: Pick<GenerateRequest, "prompt" | "sampling">) => {
  const { seed, temperature, topK, topP, minP, repetitionPenalty } = sampling
  return { promptTokens: prompt.length, seed, sampling: { temperature, topK, topP, minP, repetitionPenalty } }
}

/** The whole answer, or where it is to be found if it is more than a message may have. */
export const answered = (request: GenerateRequest, answer: Answer, limit = Number.POSITIVE_INFINITY): Reply => {
  const { session } = request
  const bytes = answers.encode({ _tag: "Answered", session, ...begun(request), ...answer })
  if (bytes.byteLength <= limit) return { bytes }
  return refusal(new AnswerTooLarge({ session, bytes: bytes.byteLength, limit }))
}

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
    UnknownDeployment: 404,
  },
}
