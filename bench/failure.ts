/** A benchmark cannot run here; the message says what to do about it. */
export class BenchFailed extends Error {}
