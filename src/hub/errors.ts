// Why a model is not found, or not brought. Each message says where was looked, or what the hub said, and what to do.
import { Schema } from "effect"

/** A name that no file, no folder and nothing of the models folder has. */
export class ModelNotFound extends Schema.TaggedError<ModelNotFound>()("ModelNotFound", {
  name: Schema.String,
  looked: Schema.Array(Schema.String),
}) {
  override get message() {
    return `there is no model ${this.name}: looked for ${this.looked.join(", ")}. \`chorus doctor\` lists the models that are here, \`chorus pull OWNER/NAME\` brings one from the Hugging Face hub.`
  }
}

/** A name that several models have. */
export class ModelAmbiguous extends Schema.TaggedError<ModelAmbiguous>()("ModelAmbiguous", {
  name: Schema.String,
  choices: Schema.Array(Schema.String),
}) {
  override get message() {
    return `${this.name} could be ${this.choices.join(" or ")}: say which`
  }
}

/** A model of the hub could not be brought. */
export class PullFailed extends Schema.TaggedError<PullFailed>()("PullFailed", {
  repository: Schema.String,
  reason: Schema.String,
}) {
  override get message() {
    return `${this.repository}: ${this.reason}`
  }
}
