// Arguments gone wrong: a valid one with something in it replaced, left out, or made to throw when it is read.
import fc from "fast-check"

/** What a getter throws; the caller has to get this very error back. */
export const thrown = new RangeError("thrown by a getter")

const detached = (): unknown => {
  const array = new Int32Array(4)
  structuredClone(array.buffer, { transfer: [array.buffer] })
  return array
}
const shared = (bytes: number): SharedArrayBuffer => new SharedArrayBuffer(bytes)
const proxy = (): unknown =>
  new Proxy([], {
    get: () => {
      throw thrown
    },
  })

const int32 = fc.oneof(fc.integer(), fc.integer({ min: -2, max: 12 }), fc.constantFrom(-(2 ** 31), 2 ** 31 - 1))
const int32s = fc.array(int32, { maxLength: 12 }).map((values) => Int32Array.from(values))

/** Anything at all. */
const junk: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(undefined, null, true, false, Symbol("s"), 0n, -1n, 2n ** 64n, 2n ** 64n - 1n),
  fc.constantFrom(Number.NaN, Infinity, -Infinity, -0, -1, 0, 0.5, 1, 2 ** 31, 2 ** 32, 2 ** 53, 1e308, 5e-324),
  fc.constantFrom("", "\0", "s\0", "\ud800", "CPU", "f32", "i8", "q8_K", "head", "x".repeat(100_000)),
  fc.double(),
  fc.integer(),
  fc.bigInt(),
  int32s,
  fc.uint8Array({ maxLength: 3000 }),
  fc.float32Array({ maxLength: 20 }),
  fc.array(int32, { maxLength: 5 }),
  fc.array(fc.constantFrom(null, {}, [], "", { op: "emit" }), { maxLength: 5 }),
  fc
    .constantFrom(
      detached,
      proxy,
      () => new Int32Array(shared(16)),
      () => new Uint8Array(shared(16), 1, 3),
      () => shared(8),
      () => new ArrayBuffer(8),
      () => new DataView(new ArrayBuffer(8)),
      () => new Int32Array(new ArrayBuffer(8, { maxByteLength: 64 })),
      () => new Array(2 ** 32 - 1),
      () => Buffer.alloc(5),
      () => new BigInt64Array(2),
      () => new Uint8ClampedArray(4),
      () => Object.create(null),
      () => new Map(),
      () => () => 1,
      () => Promise.resolve(1),
    )
    .map((make) => make()),
)

type Path = ReadonlyArray<string>
const isPlain = (value: unknown): value is object =>
  typeof value === "object" &&
  value !== null &&
  (Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype)

const pathsOf = (value: unknown): ReadonlyArray<Path> =>
  isPlain(value)
    ? Object.entries(value).flatMap(([key, child]) => [[key], ...pathsOf(child).map((path) => [key, ...path])])
    : []

/** A copy of the value in which what stands at the path is defined anew, or is not there. */
const changed = (value: object, [key, ...rest]: Path, property: PropertyDescriptor | null): object => {
  const copy = Array.isArray(value) ? [...value] : { ...value }
  if (key === undefined) return copy
  const child: unknown = Reflect.get(value, key)
  if (rest.length > 0 && isPlain(child)) Reflect.set(copy, key, changed(child, rest, property))
  else if (property === null) Reflect.deleteProperty(copy, key)
  else Object.defineProperty(copy, key, { ...property, configurable: true, enumerable: true })
  return copy
}

const throwing: PropertyDescriptor = {
  get: () => {
    throw thrown
  },
}

/** Valid arguments with one thing wrong, somewhere. */
export const spoilt = (valid: ReadonlyArray<unknown>): fc.Arbitrary<ReadonlyArray<unknown>> => {
  const property = fc.oneof(
    { weight: 8, arbitrary: junk.map((value): PropertyDescriptor => ({ value, writable: true })) },
    { weight: 1, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary: fc.constant(throwing) },
  )
  return fc
    .tuple(fc.constantFrom(...pathsOf(valid)), property)
    .filter(([path, property]) => property !== throwing || path.length > 1) // an argument itself has no getter
    .map(([path, property]) => Array.from(Object.values(changed(valid, path, property))))
}
