// Acceptance: which path of the draft tree the base itself would have taken. With the sampler's common random numbers the
// base's token after each node is decided, so this is a walk, not a lottery (design: Gumbel-max coupling).
import { type Node, nodeOf, ROOT } from "./indices.ts"
import type { Tree } from "./tree.ts"

export interface Accepted {
  readonly path: ReadonlyArray<Node> // from the root down
  readonly tokens: ReadonlyArray<number> // theirs, and the new bonus token at the end
}

/** `choices[0]` is the base's token after the root, `choices[i + 1]` its token after node i. */
export const accept = (
  { tokens, parents }: Pick<Tree, "tokens" | "parents">,
  choices: ReadonlyArray<number>,
): Accepted => {
  const path: Array<Node> = []
  for (let at: Node = ROOT; ; ) {
    const choice = choices[at + 1]
    if (choice === undefined)
      throw new RangeError(`choices has ${choices.length} tokens for a tree of ${tokens.length} nodes`)
    const child = parents.findIndex((parent, node) => parent === at && tokens[node] === choice)
    if (child === -1) return { path, tokens: [...path.map((node) => tokens[node] ?? 0), choice] }
    at = nodeOf(child)
    path.push(at)
  }
}
