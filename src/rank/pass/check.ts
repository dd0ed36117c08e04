// What a command may ask for. The schema has checked its form; this checks it against the model and the engine.
import { InvalidRequest } from "../../wire/errors.ts"
import type { Decode, PassCommand, Prefill, SessionDraft, Verify } from "../../wire/pass.ts"

export interface Bounds {
  readonly vocab: number
  readonly context: number // positions
  readonly maxRows: number // of a pass
}

/** The first field that is out of its range, or null. */
export const check = (bounds: Bounds, command: PassCommand): InvalidRequest | null => {
  switch (command._tag) {
    case "Prefill":
      return (
        checkTokens(bounds, "tokens", command.tokens, command.committed) ??
        checkFrom(command) ??
        checkSampling(bounds, command) ??
        checkScored(bounds, command)
      )
    case "Decode":
      return checkDecode(bounds, command) ?? checkAcceptedRows(command)
    case "Verify":
      return (
        checkSome("tokens", command.tokens) ??
        checkTokens(bounds, "tokens", command.tokens, command.committed, depthOf(command)) ??
        checkTree(command) ??
        checkAcceptedRows(command)
      )
    case "Draft":
      return command.sessions.reduce<InvalidRequest | null>(
        (found, draft, i) => found ?? checkDraft(bounds, `sessions[${i}]`, draft),
        null,
      )
  }
}

const invalid = (field: string, reason: string) => new InvalidRequest({ field, reason })

const checkSome = (field: string, tokens: ReadonlyArray<number>) =>
  tokens.length > 0 ? null : invalid(field, "is empty; a pass needs at least one token")

const checkTokens = (
  { vocab, context, maxRows }: Bounds,
  field: string,
  tokens: ReadonlyArray<number>,
  committed: number,
  depth = tokens.length,
) => {
  if (tokens.length > maxRows) {
    return invalid(field, `has ${tokens.length} tokens, a pass takes ${maxRows}. Send them in chunks`)
  }
  if (committed + depth > context) {
    return invalid(field, `reaches position ${committed + depth}, the context holds ${context}`)
  }
  const outside = tokens.findIndex((token) => !(Number.isInteger(token) && token >= 0 && token < vocab))
  return outside < 0
    ? null
    : invalid(`${field}[${outside}]`, `is ${JSON.stringify(tokens[outside])}, the vocabulary has ${vocab} tokens`)
}

const checkFrom = ({ from, session, source }: Prefill) =>
  from === session && source === undefined
    ? invalid("from", "is the session itself; name one that has ended, or leave it out")
    : null

/** Tokens that the sampler is told of. */
const checkSampling = ({ vocab }: Bounds, { sampling: { bias = [], barred } }: Prefill) => {
  const biased = bias.findIndex(([token]) => token >= vocab)
  if (biased >= 0) {
    return invalid(`sampling.bias[${biased}]`, `is of token ${bias[biased]?.[0]}, the vocabulary has ${vocab} tokens`)
  }
  const outside = barred?.tokens.findIndex((token) => token >= vocab) ?? -1
  if (outside < 0) return null
  return invalid(
    `sampling.barred.tokens[${outside}]`,
    `is ${barred?.tokens[outside]}, the vocabulary has ${vocab} tokens`,
  )
}

const checkScored = ({ vocab }: Bounds, { scored }: Prefill) =>
  scored === undefined || scored.following < vocab
    ? null
    : invalid("scored.following", `is ${scored.following}, the vocabulary has ${vocab} tokens`)

const checkTree = ({ tokens, parents }: Verify) => {
  if (parents.length !== tokens.length)
    return invalid("parents", `has ${parents.length} entries for ${tokens.length} tokens`)
  const wrong = parents.findIndex((parent, row) => (row === 0 ? parent !== -1 : parent < 0 || parent >= row))
  if (wrong < 0) return null
  return invalid(
    `parents[${wrong}]`,
    `is ${parents[wrong]}; expected ${wrong === 0 ? "-1" : `a row from 0 to ${wrong - 1}`}`,
  )
}

const checkDecode = ({ vocab, context }: Bounds, { token, steps, committed }: Decode) => {
  if (token >= vocab) return invalid("token", `is ${token}, the vocabulary has ${vocab} tokens`)
  const end = committed + steps
  return end <= context ? null : invalid("steps", `reaches position ${end}, the context holds ${context}`)
}

const checkAcceptedRows = ({ acceptedRows, committed }: Verify | Decode) => {
  const wrong = acceptedRows.findIndex((row, i) => row <= (acceptedRows[i - 1] ?? -1))
  if (wrong >= 0) return invalid(`acceptedRows[${wrong}]`, `is ${acceptedRows[wrong]}; rows are named in rising order`)
  return acceptedRows.length <= committed
    ? null
    : invalid("acceptedRows", `has ${acceptedRows.length} rows, more than the ${committed} committed tokens`)
}

const checkDraft = (bounds: Bounds, at: string, draft: SessionDraft) =>
  checkSome(`${at}.accepted`, draft.accepted) ??
  checkTokens(bounds, `${at}.accepted`, draft.accepted, draft.committed) ??
  checkTreeSize(bounds, at, draft)

const checkTreeSize = (
  { context, maxRows }: Bounds,
  at: string,
  { committed, accepted, depth, width }: SessionDraft,
) => {
  if (width > maxRows) return invalid(`${at}.width`, `is ${width}, a pass takes ${maxRows} rows`)
  const end = committed + accepted.length + depth
  return end <= context ? null : invalid(`${at}.depth`, `reaches position ${end}, the context holds ${context}`)
}

/** Rows of a tree's longest path. */
const depthOf = ({ parents }: Verify): number => {
  const depths: Array<number> = []
  for (const parent of parents) depths.push((depths[parent] ?? 0) + 1)
  return Math.max(0, ...depths)
}
