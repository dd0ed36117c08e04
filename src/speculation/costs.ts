// What a pass costs by its number of rows, learned from the passes that ran. Sizes fall into classes, half an octave wide;
// a class keeps exponentially-weighted means of its rows and milliseconds. Between classes the cost is interpolated, and
// it never falls as rows are added (weighted isotonic regression). A machine that slows down slows down for all sizes, so
// once a class is settled, its drift carries the others with it: sizes that are not run at present do not go stale.

export interface Timed {
  readonly rows: number
  readonly millis: number
}

interface Knot extends Timed {
  readonly count: number
}

export interface Curve {
  readonly knots: ReadonlyArray<Knot> // as measured, by rows
  readonly fit: ReadonlyArray<Timed> // the same, monotone
}

export const unknown: Curve = { knots: [], fit: [] }

const SETTLED = 5 // passes of a class
const SLOPE = 0.15 // of one row's cost, for each further row: a guess, until two sizes have been seen
const OUTLIER = 3 // a pass counts as at most this many times its class's mean

const classOf = (rows: number): number => Math.round(2 * Math.log2(rows))

export const learn = (curve: Curve, timed: Timed): Curve => {
  if (!(timed.rows >= 1 && timed.millis > 0)) return curve
  const known = knotAt(curve, timed.rows)
  if (known === undefined) {
    const knots = [...curve.knots, { ...timed, count: 1 }].sort((a, b) => a.rows - b.rows)
    return { knots, fit: monotone(knots) }
  }
  const moved = move(known, timed)
  const drift = known.count < SETTLED ? 1 : moved.millis / known.millis
  const knots = curve.knots.map((knot) => (knot === known ? moved : { ...knot, millis: knot.millis * drift }))
  return { knots, fit: monotone(knots) }
}

const move = (knot: Knot, { rows, millis }: Timed): Knot => {
  const count = knot.count + 1
  if (count === 2 && millis < knot.millis) return { rows, millis, count } // the first pass of a size runs on cold memory
  const weight = Math.max(1 / count, 1 / SETTLED)
  const believed = count <= SETTLED ? millis : Math.min(millis, OUTLIER * knot.millis)
  return {
    rows: knot.rows + weight * (rows - knot.rows),
    millis: knot.millis + weight * (believed - knot.millis),
    count,
  }
}

/** Neighbours that would fall are pooled, by their weights, until none does. */
const monotone = (knots: ReadonlyArray<Knot>): ReadonlyArray<Timed> => {
  const pools: Array<{ millis: number; weight: number; rows: ReadonlyArray<number> }> = []
  for (const knot of knots) {
    let pool = { millis: knot.millis, weight: Math.min(knot.count, SETTLED), rows: [knot.rows] }
    for (let last = pools.at(-1); last !== undefined && last.millis > pool.millis; last = pools.at(-1)) {
      const weight = last.weight + pool.weight
      const millis = (last.millis * last.weight + pool.millis * pool.weight) / weight
      pool = { millis, weight, rows: [...last.rows, ...pool.rows] }
      pools.pop()
    }
    pools.push(pool)
  }
  return pools.flatMap(({ millis, rows }) => rows.map((row) => ({ rows: row, millis })))
}

const knotAt = ({ knots }: Curve, rows: number): Knot | undefined =>
  knots.find((knot) => classOf(knot.rows) === classOf(rows))

/** Passes of about this size that were measured. */
export const countOf = (curve: Curve, rows: number): number => knotAt(curve, rows)?.count ?? 0

/** Milliseconds of a pass of this many rows; undefined while none of any size was measured. */
export const costOf = ({ fit }: Curve, rows: number): number | undefined => {
  const first = fit[0]
  const last = fit.at(-1)
  if (first === undefined || last === undefined) return undefined
  if (rows <= first.rows) return guess(first, rows)
  if (rows >= last.rows) return fit.length === 1 ? guess(first, rows) : between(first, last, rows)
  const above = fit.findIndex((knot) => knot.rows >= rows)
  return between(fit[above - 1] ?? first, fit[above] ?? last, rows)
}

/** The least that such a pass can cost, as far as anything measured says: as much as the next smaller size. */
export const leastOf = (curve: Curve, rows: number): number | undefined => {
  const below = curve.fit.findLast((knot) => knot.rows <= rows)
  return countOf(curve, rows) > 0 || below === undefined ? costOf(curve, rows) : below.millis
}

const guess = ({ rows: at, millis }: Timed, rows: number): number => (millis * (1 + SLOPE * rows)) / (1 + SLOPE * at)

/** On the line through two sizes, which beyond them goes on. */
const between = (a: Timed, b: Timed, rows: number): number =>
  a.millis + ((b.millis - a.millis) * (rows - a.rows)) / (b.rows - a.rows)
