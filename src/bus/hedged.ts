// Hedged requests (Dean and Barroso, "The Tail at Scale", 2013). Responders share a queue, and one of them that was
// killed in this moment, or hangs, may be the one that is asked: so another is asked beside it after a while.

export interface HedgeOptions {
  readonly afterMillis: number // without an answer for so long, another one is asked too, and so on
  readonly withinMillis: number // the first answer counts that comes by then
  readonly gone?: Promise<never> // rejects where no answer can come any more
}

/** The first answer. `ask` fails by itself when its time is over; `unwanted` hears the answers after the first. */
export const hedged = <A>(
  { afterMillis, withinMillis, gone }: HedgeOptions,
  ask: (timeoutMillis: number) => Promise<A>,
  unwanted: (late: A) => void = () => {},
): Promise<A> => {
  const end = performance.now() + withinMillis
  let over = false
  const first = new Promise<A>((resolve, reject) => {
    const again = (): void => {
      const left = end - performance.now()
      if (over || left < afterMillis / 2) return // it could not answer in time
      ask(left).then((answer) => (over ? unwanted(answer) : resolve(answer)), reject)
      setTimeout(again, afterMillis).unref()
    }
    again()
  })
  return Promise.race(gone === undefined ? [first] : [first, gone]).finally(() => {
    over = true
  })
}
