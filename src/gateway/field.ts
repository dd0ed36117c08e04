// A field of a request's body: its schema, and what becomes of it here, in one place. The tables of fields.ts and
// otherServers.ts are made of these; docs/HTTP.md shows them.
import { isDeepStrictEqual } from "node:util"
import { Schema } from "effect"

/** ignored: of no consequence for the answer here, whatever it says. refused: it would change the answer, and cannot. */
type Standing = "supported" | "ignored" | "refused"

export interface Field<S extends Schema.Constraint = Schema.Constraint> {
  readonly schema: S
  readonly standing: Standing
  readonly from: string // whose field it is
  readonly meaning: string // here, for the documentation
}

export type Fields = Readonly<Record<string, Field>>

const OPENAI = "OpenAI"

/** null is as good as leaving out, as with OpenAI. */
export const optional = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

export const supported = <S extends Schema.Constraint>(schema: S, meaning: string, from = OPENAI): Field<S> => ({
  ...{ schema, standing: "supported", from, meaning },
})

const anything = Schema.optionalKey(Schema.Unknown)

export const ignored = (meaning: string, from = OPENAI): Field<typeof anything> => ({
  ...{ schema: anything, standing: "ignored", from, meaning },
})

interface Refusal {
  /** Values that ask for what is done anyway; null is always one. */
  readonly but?: ReadonlyArray<unknown>
  /** What to do in its place. */
  readonly hint?: string
  readonly from?: string
}

export const refused = ({ but = [], hint, from = OPENAI }: Refusal = {}): Field<typeof anything> => {
  const neutral = [null, ...but]
  const said = but.map((value) => JSON.stringify(value)).filter((json) => json !== "[]" && json !== "{}")
  const instead = said.length === 0 ? "leave it out" : `leave it out, or give ${said.join(" or ")}`
  const message = `is not supported here: ${instead}${hint === undefined ? "" : `. ${hint}`}`
  const isNeutral = Schema.makeFilter((value: unknown) => neutral.some((one) => isDeepStrictEqual(value, one)), {
    message,
  })
  return {
    schema: Schema.optionalKey(Schema.Unknown.pipe(Schema.check(isNeutral))),
    ...{ standing: "refused", from },
    meaning: [said.length === 0 ? "" : `but for ${said.map((json) => `\`${json}\``).join(", ")}`, hint ?? ""]
      .filter((part) => part !== "")
      .join(". "),
  }
}

type SchemasOf<F extends Fields> = { readonly [Name in keyof F]: F[Name]["schema"] }

/** For Schema.Struct. */
export const schemasOf = <F extends Fields>(fields: F): SchemasOf<F> =>
  Object.fromEntries(Object.entries(fields).map(([name, { schema }]) => [name, schema])) as SchemasOf<F>
