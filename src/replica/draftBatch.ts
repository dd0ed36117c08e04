// Which drafts go to the ranks together. While the group is at work, those that come wait; when it has answered, all that
// have the same N go as one, the one that has waited longest among them, as far as a pass takes their rows. So no draft
// waits for more than one command of each N. Plain immutable data; draftBatcher.ts runs it.

/** What a draft asks for, as far as it matters here. */
export interface Wanted {
  readonly id: number
  readonly fuzzy: number
  readonly rows: number // of its largest pass
}

export interface DraftBatches {
  readonly maxRows: number
  readonly waiting: ReadonlyArray<Wanted> // in the order in which they came
  readonly atWork: boolean
}

export type BatchEvent =
  | { readonly _tag: "Wanted"; readonly wanted: Wanted }
  | { readonly _tag: "Answered" }
  | { readonly _tag: "Withdrawn"; readonly id: number }

/** Send these now, together. */
export type BatchAction = { readonly _tag: "Send"; readonly ids: ReadonlyArray<number> }

export const idle = (maxRows: number): DraftBatches => ({ maxRows, waiting: [], atWork: false })

export const decide = (state: DraftBatches, event: BatchEvent): readonly [DraftBatches, ReadonlyArray<BatchAction>] => {
  switch (event._tag) {
    case "Wanted":
      return send({ ...state, waiting: [...state.waiting, event.wanted] })
    case "Answered":
      return send({ ...state, atWork: false })
    case "Withdrawn":
      return [{ ...state, waiting: state.waiting.filter(({ id }) => id !== event.id) }, []]
  }
}

const send = (state: DraftBatches): readonly [DraftBatches, ReadonlyArray<BatchAction>] => {
  const [first] = state.waiting
  if (state.atWork || first === undefined) return [state, []]
  let rows = 0
  const together = state.waiting.filter((wanted) => {
    const fits = wanted === first || (wanted.fuzzy === first.fuzzy && rows + wanted.rows <= state.maxRows)
    if (fits) rows += wanted.rows
    return fits
  })
  const waiting = state.waiting.filter((wanted) => !together.includes(wanted))
  return [{ ...state, waiting, atWork: true }, [{ _tag: "Send", ids: together.map(({ id }) => id) }]]
}
