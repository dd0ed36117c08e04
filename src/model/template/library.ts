// @huggingface/jinja's parser and interpreter, as far as they are built upon here. Its own declarations lead to files that
// the compiler does not find.
import * as jinja from "@huggingface/jinja"

export interface Value {
  readonly type: string
  readonly value: unknown
  readonly __bool__: () => { readonly value: boolean }
}

export interface Environment {
  /** With the library's value of JavaScript's, which it gives back. */
  readonly set: (name: string, value: unknown) => Value
  readonly setVariable: (name: string, value: Value) => Value
}

export interface Node {
  readonly type: string
}

interface Evaluator {
  readonly global: Environment
  run(program: Node): Value
  evaluate(node: Node | undefined, environment: Environment): Value
}

export const Environment: new (parent?: Environment) => Environment = jinja.Environment
export const Interpreter: new (environment: Environment) => Evaluator = jinja.Interpreter

const TRIMMED = { lstrip_blocks: true, trim_blocks: true } // as in transformers

export const parse = (source: string): Node => jinja.parse(jinja.tokenize(source, TRIMMED))
