// What is being done until the first token, on stderr: one line that is redrawn on a terminal, elsewhere a line for each
// change of what is being done.

export interface Progress {
  /** What is being done now; a fraction from 0 to 1 of it where that is known. */
  readonly report: (doing: string, fraction?: number) => void
  /** Takes the line away again, or ends it. */
  readonly clear: () => void
}

const CLEAR_LINE = "\r\u001b[2K"
const BAR_WIDTH = 24

export interface Output {
  readonly isTTY?: boolean | undefined
  readonly columns?: number | undefined
  write(text: string): unknown
}

export const progressOn = (stream: Output): Progress => {
  let shown = ""
  if (stream.isTTY !== true) {
    return {
      report: (doing) => {
        if (doing !== shown) stream.write(`${doing} ...\n`)
        shown = doing
      },
      clear: () => {},
    }
  }
  return {
    report: (doing, fraction) => {
      const line = fraction === undefined ? `${doing} ...` : `${doing} ${bar(fraction)}`
      if (line !== shown) stream.write(`${CLEAR_LINE}${line.slice(0, Math.max(20, (stream.columns ?? 80) - 1))}`)
      shown = line
    },
    clear: () => {
      if (shown !== "") stream.write(CLEAR_LINE)
      shown = ""
    },
  }
}

/** ████████░░░░ 67% */
export const bar = (fraction: number): string => {
  const done = Math.min(1, Math.max(0, fraction))
  const full = Math.round(done * BAR_WIDTH)
  return `${"█".repeat(full)}${"░".repeat(BAR_WIDTH - full)} ${Math.round(done * 100)}%`
}

/** For --json and tests: progress goes nowhere. */
export const silent: Progress = { report: () => {}, clear: () => {} }
