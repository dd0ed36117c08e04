// The options that several commands share, with what each may hold. A value out of range is refused by the option's name.
import { availableParallelism } from "node:os"
import { Option } from "effect"
import { Flag } from "effect/cli"
import { HTTP_ENVIRONMENT, Strategy } from "../wire/deployment.ts"
import { isName } from "../wire/subjects.ts"

const described =
  (text: string, metavar?: string) =>
  <A>(flag: Flag.Flag<A>): Flag.Flag<A> => {
    const with_ = flag.pipe(Flag.withDescription(text))
    return metavar === undefined ? with_ : with_.pipe(Flag.withMetavar(metavar))
  }

/** Flags that stand alone. Every other takes the argument behind it as its value, whatever that begins with. */
export const toggles = new Set(["help", "h", "version", "v"])

export const toggle = (name: string) => {
  toggles.add(name)
  return Flag.Boolean(name)
}

const int = (name: string, least: number, most: number = Number.MAX_SAFE_INTEGER) =>
  Flag.Int(name).pipe(
    Flag.filter(
      (value) => value >= least && value <= most,
      () => (most === Number.MAX_SAFE_INTEGER ? `an integer, ${least} or more` : `an integer from ${least} to ${most}`),
    ),
  )

export const count = (name: string, least: number) => int(name, least).pipe(Flag.withMetavar("N"))

const finite = (name: string, least: number, most: number) =>
  Flag.Finite(name).pipe(
    Flag.filter(
      (value) => value >= least && value <= most,
      () => `a number from ${least} to ${most}`,
    ),
  )

const name = (flag: string) =>
  Flag.String(flag).pipe(Flag.filter(isName, () => "a name of letters, digits, - and _, at most 64 of them"))

export const names = (flag: string) => name(flag).pipe(Flag.withMetavar("NAME"))

const MAX_SEED = 2n ** 64n - 1n

const seed = Flag.String("seed").pipe(
  Flag.filterMap(
    (text) => {
      const value = /^\d{1,20}$/.test(text) ? BigInt(text) : undefined
      return value === undefined || value > MAX_SEED ? Option.none() : Option.some(value)
    },
    () => "an integer from 0 to 2^64 - 1",
  ),
)

/** token=bias. */
const bias = Flag.String("logit-bias").pipe(
  Flag.filterMap(
    (text) => {
      const [, token, bias] = /^(0|[1-9]\d{0,9})=([+-]?\d{1,3}(?:\.\d*)?)$/.exec(text) ?? []
      return token === undefined || Math.abs(Number(bias)) > 100
        ? Option.none<readonly [string, number]>()
        : Option.some([token, Number(bias)] as const)
    },
    () => "a token's number and a number from -100 to 100, such as 42=-100",
  ),
)

export interface Tree {
  readonly depth: number
  readonly width: number
  readonly nodes: number
}

/** depth,width,nodes. */
const tree = Flag.String("tree").pipe(
  Flag.filterMap(
    (text) => {
      const [, depth, width, nodes] = (/^([1-9]\d{0,3}),([1-9]\d{0,3}),([1-9]\d{0,3})$/.exec(text) ?? []).map(Number)
      if (depth === undefined || width === undefined || nodes === undefined) return Option.none<Tree>()
      return Option.some({ depth, width, nodes })
    },
    () => "three positive integers, depth,width,nodes, such as 5,4,16",
  ),
)

/** Which models, and how their groups are spread over ranks. None of them given: the demo pair. */
export const placement = {
  base: Flag.String("base").pipe(
    described(
      "the model to generate with: a Hugging Face folder or a GGUF file, by its path or by its name in the models folder; OWNER/NAME:QUANT brings one from the Hugging Face hub (default: the demo pair)",
      "MODEL",
    ),
    Flag.optional,
  ),
  draft: Flag.String("draft").pipe(
    described("a small model of the same vocabulary that drafts for it; --base without one decodes plainly", "MODEL"),
    Flag.optional,
  ),
  strategy: Flag.Literals("strategy", Strategy.literals).pipe(
    described(
      "how a model is split over its ranks (default: single for one rank, pipeline for a base, layer for a draft of several)",
    ),
    Flag.optional,
  ),
  "base-ranks": int("base-ranks", 1, 64).pipe(described("ranks of the base (default: 1)", "N"), Flag.optional),
  "draft-ranks": int("draft-ranks", 1, 64).pipe(
    described(
      "ranks of the draft (default: 1, which has all cores; 2 for the demo pair or where --strategy splits)",
      "N",
    ),
    Flag.optional,
  ),
  threads: int("threads", 1, 1024).pipe(
    described(
      `threads of each rank (default: this machine's ${availableParallelism()} cores divided by the ranks of a group)`,
      "N",
    ),
    Flag.optional,
  ),
  device: Flag.String("device").pipe(
    described("CPU, CUDA0, ... as `chorus doctor` lists them (default: a GPU where there is one)", "NAME"),
    Flag.optional,
  ),
  context: int("context", 1).pipe(
    described("tokens that a prompt and its answer may have together (default: the model's own, at most 4096)", "N"),
    Flag.optional,
  ),
  deterministic: toggle("deterministic").pipe(
    described(
      "the same bits in every batch, tree and strategy, so the same tokens with and without speculation (default); --no-deterministic for speed instead",
    ),
    Flag.optional,
  ),
}

/** How to generate. */
export const sampling = {
  "add-special-tokens": toggle("add-special-tokens").pipe(
    described(
      "put around the prompt what the model's files put there, such as bos (default; with --chat it is the template's affair); --no-add-special-tokens leaves that out",
    ),
    Flag.optional,
  ),
  "max-tokens": int("max-tokens", 1).pipe(
    described("end after this many tokens (default: with the model's end, or the context's)", "N"),
    Flag.optional,
  ),
  temperature: finite("temperature", 0, 100).pipe(
    described(
      "0 takes the most probable token, 1 samples the model's own distribution (default: what the model's files want, else 0)",
      "T",
    ),
    Flag.optional,
  ),
  "top-k": int("top-k", 0).pipe(
    described("sample from the K most probable tokens (default: the model's, else 0, all)", "K"),
    Flag.optional,
  ),
  "top-p": finite("top-p", 0, 1).pipe(
    described("sample from the fewest tokens whose probabilities reach P (default: the model's, else 1, all)", "P"),
    Flag.optional,
  ),
  "min-p": finite("min-p", 0, 1).pipe(
    described("leave out tokens less than P times as probable as the best (default: the model's, else 0, none)", "P"),
    Flag.optional,
  ),
  "repetition-penalty": finite("repetition-penalty", 0.01, 100).pipe(
    described(
      "above 1 makes tokens that were there less probable, in the prompt too (default: the model's, else 1)",
      "X",
    ),
    Flag.optional,
  ),
  "presence-penalty": finite("presence-penalty", -2, 2).pipe(
    described("taken from the logits of tokens that the answer has; below 0 it is added (default: 0)", "X"),
    Flag.optional,
  ),
  "frequency-penalty": finite("frequency-penalty", -2, 2).pipe(
    described("likewise, for each time that it has them (default: 0)", "X"),
    Flag.optional,
  ),
  "logit-bias": bias.pipe(
    described("added to a token's logit; -100 bans it. May be given several times", "TOKEN=X"),
    Flag.atLeast(0),
  ),
  "min-tokens": int("min-tokens", 0).pipe(
    described("neither the model nor a --stop ends the answer before this many tokens (default: 0)", "N"),
    Flag.optional,
  ),
  "ignore-eos": toggle("ignore-eos").pipe(
    described("go on to --max-tokens, whatever the model says of the end"),
    Flag.withDefault(false),
  ),
  seed: seed.pipe(
    described("of the sampler; the same seed gives the same tokens (default: random)", "N"),
    Flag.optional,
  ),
  stop: Flag.String("stop").pipe(
    described("end before this text; may be given several times", "TEXT"),
    Flag.atLeast(0),
  ),
}

/** How to speculate. Never a matter of which tokens come out. */
export const speculation = {
  speculation: toggle("speculation").pipe(
    described("draft and verify, adapted to what pays on this machine (default); --no-speculation decodes plainly"),
    Flag.optional,
  ),
  tree: tree.pipe(described("force draft trees of this shape, such as 5,4,16", "DEPTH,WIDTH,NODES"), Flag.optional),
  fuzzy: int("fuzzy", 1, 1024).pipe(
    described("N: attention layers of the draft that run at once; 1 is an exact draft (default: 4)", "N"),
    Flag.optional,
  ),
}

export const nats = Flag.String("nats").pipe(
  Flag.filter(
    (url) => url.split(",").every((one) => URL.canParse(one) && /^(nats|tls|ws|wss):$/.test(new URL(one).protocol)),
    () => "a NATS URL, such as nats://127.0.0.1:4222",
  ),
  Flag.withMetavar("URL"),
)

export const keys = Flag.String("keys").pipe(
  Flag.withDescription("folder of keys for NATS, as `chorus keys` makes it (default: CHORUS_NATS_KEYS)"),
  Flag.withMetavar("FOLDER"),
  Flag.optional,
)

/** HTTP: where a gateway listens, and which clients it serves. What is left out has the environment's value, or the gateway's default. */
export const http = {
  host: Flag.String("host").pipe(
    described("address that HTTP listens on; 0.0.0.0 is every network of this machine (default: 127.0.0.1)", "HOST"),
    Flag.withDefault(process.env[HTTP_ENVIRONMENT.host] ?? "127.0.0.1"),
  ),
  port: int("port", 0, 65_535).pipe(
    described("port of HTTP; 0 takes a free one (default: 8080)", "N"),
    Flag.withDefault(Number(process.env[HTTP_ENVIRONMENT.port] ?? 8080)),
  ),
  "api-keys": Flag.String("api-keys").pipe(
    described(
      "file of the API keys that may ask over HTTP: a key a line, or a name and a key (default: all may)",
      "FILE",
    ),
    Flag.optional,
  ),
  "rate-limit": int("rate-limit", 1, 1_000_000).pipe(
    described("HTTP requests a minute of each API key, or address (default: no limit)", "N"),
    Flag.optional,
  ),
  "request-timeout": int("request-timeout", 1, 86_400).pipe(
    described("seconds that an HTTP request may take to the end of its answer (default: 600)", "N"),
    Flag.optional,
  ),
  "keep-alive": int("keep-alive", 1, 86_400).pipe(
    described("seconds of silence in a stream over HTTP after which it says that it goes on (default: 15)", "N"),
    Flag.optional,
  ),
  "body-limit": int("body-limit", 1_024, 2 ** 30).pipe(
    described("bytes that the body of an HTTP request may have (default: 1048576)", "N"),
    Flag.optional,
  ),
  "cors-origin": Flag.String("cors-origin").pipe(
    described(
      "origin whose pages may ask over HTTP, such as https://app.example; may be given several times",
      "ORIGIN",
    ),
    Flag.atLeast(0),
  ),
  strict: toggle("strict").pipe(
    Flag.withDescription("refuse HTTP requests with an unknown field (default: it is ignored, and named)"),
    Flag.withDefault(process.env[HTTP_ENVIRONMENT.strict] === "1"),
  ),
}

/** Those options as the environment of a gateway. */
export const httpEnvironment = (given: Values<typeof http>): Readonly<Record<string, string>> => ({
  [HTTP_ENVIRONMENT.host]: given.host,
  [HTTP_ENVIRONMENT.port]: `${given.port}`,
  ...inherited(HTTP_ENVIRONMENT.keys),
  ...inherited(HTTP_ENVIRONMENT.keysFile),
  ...optionOf(HTTP_ENVIRONMENT.keysFile, given["api-keys"]),
  ...optionOf(HTTP_ENVIRONMENT.rateLimit, given["rate-limit"]),
  ...optionOf(HTTP_ENVIRONMENT.timeout, given["request-timeout"]),
  ...optionOf(HTTP_ENVIRONMENT.keepAlive, given["keep-alive"]),
  ...optionOf(HTTP_ENVIRONMENT.bodyLimit, given["body-limit"]),
  ...(given["cors-origin"].length > 0 ? { [HTTP_ENVIRONMENT.corsOrigins]: given["cors-origin"].join(",") } : {}),
  [HTTP_ENVIRONMENT.strict]: given.strict ? "1" : "0",
})

const inherited = (name: string): Readonly<Record<string, string>> =>
  optionOf(name, Option.fromUndefinedOr(process.env[name]))

const optionOf = (name: string, value: Option.Option<string | number>): Readonly<Record<string, string>> =>
  Option.match(value, { onNone: () => ({}), onSome: (given) => ({ [name]: `${given}` }) })

const UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** Milliseconds of 500ms, 30s, 5m, 1h. */
export const duration = (name: string) =>
  Flag.String(name).pipe(
    Flag.filterMap(
      (text) => {
        const [, count, unit] = /^([1-9]\d{0,8})(ms|s|m|h|d)$/.exec(text) ?? []
        return count === undefined
          ? Option.none<number>()
          : Option.some(Number(count) * UNITS[unit as keyof typeof UNITS])
      },
      () => "a time, such as 500ms, 30s, 5m, 12h or 7d",
    ),
    Flag.withMetavar("TIME"),
  )

const SIZES = { M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 } as const

/** Bytes of 512M, 8G, 1T. */
const size = (name: string) =>
  Flag.String(name).pipe(
    Flag.filterMap(
      (text) => {
        const [, count, unit] = /^([1-9]\d{0,8})([MGT])$/.exec(text) ?? []
        return count === undefined
          ? Option.none<number>()
          : Option.some(Number(count) * SIZES[unit as keyof typeof SIZES])
      },
      () => "a size, such as 512M, 8G",
    ),
    Flag.withMetavar("SIZE"),
  )

/** What a host may use of its machine. */
export const limits = {
  cores: int("cores", 1, 4096).pipe(described("cores that its ranks may use (default: all)", "N"), Flag.optional),
  memory: size("memory").pipe(described("memory that its ranks may use (default: what is free)"), Flag.optional),
}

export const hostName = name("name").pipe(Flag.withMetavar("NAME"))

/** In milliseconds. */
export const retention = duration("retention").pipe(
  Flag.withDescription("how long a session's tokens can be read again (default: 1h, or what the server's stream has)"),
  Flag.optional,
)

export const deploymentName = name("name").pipe(Flag.withMetavar("NAME"))

export const stats = toggle("stats").pipe(
  Flag.withDescription("say on stderr what it took: speed, accepted tokens, and each kind of pass"),
  Flag.withDefault(false),
)

export const jsonOf = (text: string) => toggle("json").pipe(Flag.withDescription(text), Flag.withDefault(false))

/** What a command's handler gets of a set of flags. */
export type Values<Flags extends Record<string, Flag.Flag<unknown>>> = {
  readonly [Name in keyof Flags]: Flags[Name] extends Flag.Flag<infer Value> ? Value : never
}
