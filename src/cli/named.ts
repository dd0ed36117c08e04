// Finds the models that the options name, and brings those that only the hub has.
import { resolve } from "node:path"
import { Console, Effect, Option } from "effect"
import type { PullFailed } from "../hub/errors.ts"
import { type Located, locate, modelsFolder } from "../hub/folder.ts"
import type { RepositoryName } from "../hub/name.ts"
import { CommandFailed } from "./errors.ts"
import type { PlacementFlags } from "./placement.ts"
import type { Progress } from "./progress.ts"
import { bytes } from "./quantities.ts"

/** The same options with their models as absolute paths, which are there. */
export const located = Effect.fnUntraced(function* <Flags extends Pick<PlacementFlags, "base" | "draft">>(
  flags: Flags,
  progress: Progress,
) {
  const models = modelsFolder(process.env)
  const find = (name: Option.Option<string>) =>
    Option.match(name, {
      onNone: () => Effect.succeed(null),
      onSome: (text) => locate(text, { from: process.cwd(), models }),
    })
  const found = { base: yield* find(flags.base), draft: yield* find(flags.draft) }
  const names = Object.values(found).flatMap((one) => (one?._tag === "Elsewhere" ? [one.name] : []))
  const paths = names.length === 0 ? [] : yield* Effect.mapError(bring(names, progress), neither)
  const pathOf = (one: Located | null): Option.Option<string> => {
    if (one === null) return Option.none()
    return Option.some(one._tag === "Here" ? one.path : (paths[names.indexOf(one.name)] ?? ""))
  }
  return { ...flags, base: pathOf(found.base), draft: pathOf(found.draft) }
})

/** Where a path may have been meant, the message says so. */
const neither = ({ repository, message }: PullFailed) =>
  new CommandFailed({ reason: `${message}. Nor is there a file or folder ${resolve(repository)}` })

/** Brings models from the hub into the models folder, after saying how large they are; gives their paths. */
export const bring = (names: ReadonlyArray<RepositoryName>, progress: Progress) =>
  Effect.ensuring(
    brought(names, progress),
    Effect.sync(() => progress.clear()),
  )

const brought = Effect.fnUntraced(function* (names: ReadonlyArray<RepositoryName>, progress: Progress) {
  // Loaded here, for models that are here need no hub.
  const { hubOf, select } = yield* Effect.promise(() => import("../hub/repository.ts"))
  const { order, pull } = yield* Effect.promise(() => import("../hub/pull.ts"))
  const [hub, models] = [hubOf(process.env), modelsFolder(process.env)]
  progress.report(`asking ${hub.hubUrl}`)
  const orders = yield* Effect.forEach(names, (name) =>
    Effect.map(select(name, hub), (selection) => order(selection, models)),
  )
  progress.clear()
  for (const one of orders) {
    if (one.missing.length === 0) continue
    const all = one.missing.reduce((sum, file) => sum + file.bytes, 0)
    const rest = one.bytes === all ? "" : `, ${bytes(one.bytes)} of which are still to come`
    yield* Console.error(`chorus: ${one.repository} is ${bytes(all)}${rest}: from ${hub.hubUrl} into ${models}`)
  }
  for (const one of orders) {
    const report = ({ path }: { readonly path: string }, fraction: number) =>
      progress.report(`bringing ${shortened(path)}`, fraction)
    yield* pull(one, { hub, models, report })
  }
  return orders.map(({ path }) => path)
})

/** So that the bar has room behind it. */
const LONGEST = 40

const shortened = (path: string): string => (path.length <= LONGEST ? path : `…${path.slice(1 - LONGEST)}`)
