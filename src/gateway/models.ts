// GET /v1/models, and one by its name: the deployments that are served now.
import { Effect } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { samplingOf } from "../wire/samplingDefaults.ts"
import { api } from "./api.ts"
import { Deployments, type ServedModel } from "./deployments.ts"
import { apiError } from "./errors.ts"
import { defaultsOf } from "./sampling.ts"

export const models = api("GET", "/v1/models", () =>
  Effect.gen(function* () {
    const served = yield* (yield* Deployments).served
    return HttpServerResponse.jsonUnsafe({ object: "list", data: served.map(objectOf) })
  }),
)

export const model = api("GET", "/v1/models/:model", () =>
  Effect.gen(function* () {
    const { model = "" } = yield* HttpRouter.params
    const served = yield* (yield* Deployments).served
    const found = served.find(({ name }) => name === model)
    if (found !== undefined) return HttpServerResponse.jsonUnsafe(objectOf(found))
    const names = served.map(({ name }) => name).join(", ")
    const reason = `there is no model ${model.slice(0, 64)} here. GET /v1/models lists those that are: ${names || "none"}`
    return yield* apiError(404, "model_not_found", reason, { param: "model" })
  }),
)

const objectOf = ({ name, created, metadata }: ServedModel) => ({
  ...{ id: name, object: "model", created: Math.floor(created / 1000), owned_by: "chorus" },
  ...(metadata.context === undefined ? {} : { context_length: Number(metadata.context) }),
  default_sampling: defaultsOf(samplingOf(metadata)),
})
