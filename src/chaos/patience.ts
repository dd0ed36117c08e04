// How long a generation waits: to ask again, and until silence counts as a fault.

export const PATIENCE_MILLIS = 90_000

const AGAIN_MILLIS = 200

export const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, AGAIN_MILLIS))

/** What is waited for, or that nothing was heard. */
export const within = async <A>(waited: Promise<A>, who: string, millis = PATIENCE_MILLIS): Promise<A> => {
  let timer: NodeJS.Timeout | undefined
  const silence = new Promise<never>((_, reject) => {
    const overdue = (): void => reject(new Error(`${who} has heard nothing for ${millis / 1_000} s`))
    timer = setTimeout(overdue, millis)
  })
  try {
    return await Promise.race([waited, silence])
  } finally {
    clearTimeout(timer)
  }
}
