// Streams that llama.cpp evaluates together: each sequence of one context asks again when its answer is whole.

/** Tokens that come within the window, and what their readers see: times to the first token, and pauses between tokens. */
export const parallel = async (context, { prompts, streams, maxTokens, warmUpMillis, windowMillis }) => {
  const from = performance.now() + warmUpMillis
  const to = from + windowMillis
  const seen = { tokens: 0, first: [], pauses: [] }
  let n = 0
  const read = async (sequence) => {
    while (performance.now() < to) {
      const prompt = prompts[n++ % prompts.length]
      await sequence.clearHistory()
      const asked = performance.now()
      let last = null
      let count = 0
      for await (const _ of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
        const now = performance.now()
        if (now >= from && now < to) {
          seen.tokens += 1
          if (last === null) seen.first.push(now - asked)
          else seen.pauses.push(now - last)
        }
        last = now
        count += 1
        if (count === maxTokens || now >= to) break
      }
    }
  }
  const sequences = Array.from({ length: streams }, () => context.getSequence())
  await Promise.all(sequences.map(read))
  for (const sequence of sequences) sequence.dispose()
  return seen
}
