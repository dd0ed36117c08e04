// Loaded into each actor of a chaos run before its own modules (--import): at each SIGUSR2 its wall clock is set to another
// time, as an operator or a time server may set a machine's. Timers and performance.now() go on, as they do there.
const HOUR = 3_600_000
const OFFSETS = [HOUR, 0, -HOUR, 0]

const now = Date.now
let offset = 0

Date.now = () => now() + offset
globalThis.Date = new Proxy(Date, {
  construct: (date, time, target) => Reflect.construct(date, time.length === 0 ? [Date.now()] : time, target),
})

let steps = 0
process.on("SIGUSR2", () => {
  offset = OFFSETS[steps++ % OFFSETS.length] ?? 0
})
