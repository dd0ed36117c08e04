// Numbers as people read them.

export const milliseconds = (millis: number): string => {
  if (millis >= 10_000) return `${(millis / 1000).toFixed(1)} s`
  if (millis >= 1000) return `${(millis / 1000).toFixed(2)} s`
  return millis >= 10 ? `${millis.toFixed(0)} ms` : `${millis.toFixed(2)} ms`
}

export const bytes = (count: number): string => {
  if (count < 1024) return `${count} B`
  const power = Math.min(4, Math.floor(Math.log2(count) / 10))
  return `${(count / 1024 ** power).toFixed(1)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`
}

/** 1 token, 2 tokens. */
export const counted = (count: number, noun: string): string => `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`

export const grouped = (count: number): string => count.toLocaleString("en-US", { maximumFractionDigits: 0 })

/** A figure per something: 2.4, or - where there was nothing to divide by. */
export const per = (total: number, count: number, digits = 1): string =>
  count === 0 ? "-" : (total / count).toFixed(digits)
