// The public types of @chorus/client are written out, for their readers; these are checks by the compiler that they say what
// the wire's schemas say, field by field.
import { expectTypeOf, test } from "vitest"
import type * as Face from "../../../packages/client/src/answer.ts"
import type { GenerateRequest } from "../../../packages/client/src/request.ts"
import type * as Models from "../../../src/client/models.ts"
import type * as Wire from "../../../src/wire/infer.ts"

test("a request has the wire's fields, and says which deployment it is for", () => {
  expectTypeOf<keyof GenerateRequest>().toEqualTypeOf<Exclude<keyof Wire.InferRequest, "stream"> | "deployment">()
  expectTypeOf<Omit<GenerateRequest, "deployment" | "seed">>().toExtend<Omit<Wire.InferRequest, "stream" | "seed">>()
  expectTypeOf<Omit<Wire.InferRequest, "stream">>().toExtend<GenerateRequest>()
})

test("what is read has them too", () => {
  expectTypeOf<keyof Face.Token>().toEqualTypeOf<keyof Wire.LoggedToken | "position">()
  expectTypeOf<Wire.LoggedToken>().toExtend<Omit<Face.Token, "position">>()
  expectTypeOf<Face.GenerationStats>().toEqualTypeOf<Wire.GenerationStats>()
  expectTypeOf<Face.SampledWith>().toEqualTypeOf<Wire.SampledWith>()
  expectTypeOf<Face.PromptToken>().toEqualTypeOf<Wire.PromptToken>()
  expectTypeOf<Exclude<Wire.FinishReason, "failed">>().toEqualTypeOf<Face.FinishReason>()
  expectTypeOf<Exclude<keyof Wire.Answer, "error">>().toEqualTypeOf<
    Exclude<keyof Face.Answer, "session" | "promptTokens" | "seed" | "sampling">
  >()
  expectTypeOf<Face.ServedModel>().toEqualTypeOf<Models.ServedModel>()
})
