// What the small models are asked to go on with: TypeScript for the demo pair, which knows nothing else, English for SmolLM2.

export const TYPESCRIPT = [
  "export class Queue<T> {\n",
  'import { readFile } from "node:fs/promises";\n\n/**\n * Reads',
  "interface User {\n    readonly id: string;\n",
  "export function debounce<",
  "export type Result<T, E> =",
  "export const isString = (value: unknown): value is string =>",
  "export abstract class Emitter<Events extends Record<string, unknown>> {\n",
  "export declare function parse(",
]

export const ENGLISH = [
  "The capital of France is",
  "Q: What is 17 plus 25?\nA:",
  "Once upon a time, in a small village by the sea, there lived",
  "Photosynthesis is the process by which plants",
  "To bake a simple loaf of bread, you first need to",
  "The three laws of motion say that",
]
