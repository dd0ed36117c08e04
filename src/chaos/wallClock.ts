// Loaded into each actor of a chaos run before its own modules (--import): at a SIGUSR2 its wall clock is set an hour ahead,
// at a SIGWINCH an hour back, as an operator or a time server may set a machine's. Timers and performance.now() go on.
const HOUR = 3_600_000

const now = Date.now
let offset = 0

Date.now = () => now() + offset
globalThis.Date = new Proxy(Date, {
  construct: (date, time, target) => Reflect.construct(date, time.length === 0 ? [Date.now()] : time, target),
})

process.on("SIGUSR2", () => {
  offset += HOUR
})
process.on("SIGWINCH", () => {
  offset -= HOUR
})
