// How a deployment samples where a request does not say: what its model's files want. Supervisors tell it in the metadata of
// their service, as JSON.
import { Schema } from "effect"

/** What is left out the model does not name. */
export const SamplingDefaults = Schema.Struct({
  temperature: Schema.optionalKey(Schema.Finite),
  topK: Schema.optionalKey(Schema.Finite),
  topP: Schema.optionalKey(Schema.Finite),
  minP: Schema.optionalKey(Schema.Finite),
  repetitionPenalty: Schema.optionalKey(Schema.Finite),
})
export type SamplingDefaults = typeof SamplingDefaults.Type

const Metadata = Schema.Struct({ sampling: Schema.fromJsonString(SamplingDefaults) })
const decode = Schema.decodeUnknownOption(Metadata)

/** Of a service's metadata; nothing where they do not say. */
export const samplingOf = (metadata: Readonly<Record<string, string>>): SamplingDefaults => {
  const decoded = decode(metadata)
  return decoded._tag === "Some" ? decoded.value.sampling : {}
}
