// The library's interpreter with Python's meanings, where its own are JavaScript's: what a value prints as, what equals
// what, what a loop keeps, and the filters and methods of filters.ts. Chat templates are written for Jinja on Python.
import { contains, filters, type Given, methods, tests } from "./filters.ts"
import { Environment, Interpreter, type Node, parse, type Value } from "./library.ts"
import { equal, isNone, isUndefined, itemsOf, listOf, mapOf, numberOf, str, textOf, wrap } from "./values.ts"

/** The library's tree, as far as it is looked at here. */
interface Kinds {
  readonly Program: { readonly body: ReadonlyArray<Node> }
  readonly For: {
    readonly loopvar: Node
    readonly iterable: Node
    readonly body: ReadonlyArray<Node>
    readonly defaultBlock: ReadonlyArray<Node>
  }
  readonly If: { readonly test: Node; readonly body: ReadonlyArray<Node>; readonly alternate: ReadonlyArray<Node> }
  readonly SelectExpression: { readonly lhs: Node; readonly test: Node }
  readonly TupleLiteral: { readonly value: ReadonlyArray<Node> }
  readonly Identifier: { readonly value: string }
  readonly StringLiteral: { readonly value: string }
  readonly BinaryExpression: {
    readonly operator: { readonly value: string }
    readonly left: Node
    readonly right: Node
  }
  readonly FilterExpression: { readonly operand: Node; readonly filter: Node }
  readonly FilterStatement: { readonly body: ReadonlyArray<Node>; readonly filter: Node }
  readonly TestExpression: { readonly operand: Node; readonly negate: boolean; readonly test: Node }
  readonly CallExpression: { readonly callee: Node; readonly args: ReadonlyArray<Node> }
  readonly MemberExpression: { readonly object: Node; readonly property: Node; readonly computed: boolean }
  readonly KeywordArgumentExpression: { readonly key: Node; readonly value: Node }
  readonly SpreadExpression: { readonly argument: Node }
  readonly KeywordSpreadExpression: { readonly argument: Node }
  readonly Output: { readonly expression: Node } // ours: an expression whose value is printed
  readonly Value: { readonly value: Value } // ours: what has been evaluated
}

const is = <Kind extends keyof Kinds>(node: Node | undefined, kind: Kind): node is Node & Kinds[Kind] =>
  node?.type === kind

/** A node of which the value is known; the library evaluates what it is given. */
const known = (value: Value): Node & Kinds["Value"] => ({ type: "Value", value })

/** A copy of one of the library's nodes. */
const kept = <Copy extends Node>(node: Copy): Node => node

const SILENT = new Set([
  "Set",
  "If",
  "For",
  "Macro",
  "CallStatement",
  "FilterStatement",
  "Break",
  "Continue",
  "Comment",
])

/** Line ends are LF before anything is trimmed, and expressions that are printed are known as such. */
export const parsed = (source: string, literal: (text: string) => string = (text) => text): Node => {
  const program = parse(source.replaceAll(/\r\n?/g, "\n"))
  prepare(program, literal)
  return program
}

const prepare = (node: unknown, literal: (text: string) => string): void => {
  if (Array.isArray(node)) return node.forEach((one) => prepare(one, literal))
  if (node instanceof Map) return node.forEach((value, key) => [key, value].forEach((one) => prepare(one, literal)))
  if (typeof node !== "object" || node === null) return
  if ("type" in node && node.type === "StringLiteral" && "value" in node && typeof node.value === "string") {
    node.value = literal(node.value)
    return
  }
  Object.values(node).forEach((one) => prepare(one, literal))
  if ("body" in node && Array.isArray(node.body)) node.body = node.body.map(printed)
  if ("alternate" in node && Array.isArray(node.alternate)) node.alternate = node.alternate.map(printed)
  if ("defaultBlock" in node && Array.isArray(node.defaultBlock)) node.defaultBlock = node.defaultBlock.map(printed)
}

/** Still one of the library's nodes, which it looks through. */
const printed = (node: Node): Node =>
  SILENT.has(node.type)
    ? node
    : Object.assign(Object.create(Object.getPrototypeOf(node)), { type: "Output", expression: node })

/** break and continue, with the text that came before them. */
class Jump extends Error {
  readonly ends: boolean // the loop
  text = ""

  constructor(ends: boolean) {
    super(ends ? "break outside of a loop" : "continue outside of a loop")
    this.ends = ends
  }
}

export class PythonInterpreter extends Interpreter {
  override evaluate(node: Node | undefined, environment: Environment): Value {
    if (is(node, "Value")) return node.value
    if (is(node, "Program")) return wrap(this.#block(node.body, environment))
    if (is(node, "If")) {
      const holds = this.evaluate(node.test, environment).__bool__().value
      return wrap(this.#block(holds ? node.body : node.alternate, environment))
    }
    if (is(node, "Output")) return wrap(str(this.evaluate(node.expression, environment)))
    if (is(node, "For")) return this.#loop(node, environment)
    if (is(node, "FilterExpression")) {
      return this.#filtered(this.evaluate(node.operand, environment), node.filter, environment)
    }
    if (is(node, "FilterStatement")) {
      return this.#filtered(wrap(this.#block(node.body, environment)), node.filter, environment)
    }
    if (is(node, "TestExpression")) return this.#tested(node, environment)
    if (is(node, "BinaryExpression")) return this.#combined(node, environment)
    if (is(node, "MemberExpression")) return this.#member(node, environment)
    if (is(node, "CallExpression")) return this.#called(node, environment)
    if (node?.type === "Break" || node?.type === "Continue") throw new Jump(node.type === "Break")
    return super.evaluate(node, environment)
  }

  #given(args: ReadonlyArray<Node>, environment: Environment): Given {
    const positional: Array<Value> = []
    const named = new Map<string, Value>()
    for (const argument of args) {
      if (is(argument, "KeywordArgumentExpression") && is(argument.key, "Identifier")) {
        named.set(argument.key.value, this.evaluate(argument.value, environment))
      } else if (/Spread/.test(argument.type)) throw new Error("a filter or method takes no unpacked arguments here")
      else positional.push(this.evaluate(argument, environment))
    }
    return { positional, named }
  }

  #filtered(operand: Value, filter: Node, environment: Environment): Value {
    const callee = is(filter, "CallExpression") ? filter.callee : filter
    const own = is(callee, "Identifier") ? filters.get(callee.value) : undefined
    if (own !== undefined)
      return own(operand, this.#given(is(filter, "CallExpression") ? filter.args : [], environment))
    const rest: Node & Kinds["FilterExpression"] = { type: "FilterExpression", operand: known(operand), filter }
    return super.evaluate(rest, environment)
  }

  #tested({ operand, negate, test }: Kinds["TestExpression"], environment: Environment): Value {
    const value = this.evaluate(operand, environment)
    const own = is(test, "Identifier") ? tests.get(test.value) : undefined
    if (own !== undefined) return wrap(own(value) !== negate)
    const rest: Node & Kinds["TestExpression"] = { type: "TestExpression", operand: known(value), negate, test }
    return super.evaluate(rest, environment)
  }

  #combined(node: Node & Kinds["BinaryExpression"], environment: Environment): Value {
    const operator = node.operator.value
    if (operator === "and" || operator === "or") return super.evaluate(node, environment)
    const [left, right] = [this.evaluate(node.left, environment), this.evaluate(node.right, environment)]
    if (operator === "==" || operator === "!=") return wrap(equal(left, right) === (operator === "=="))
    if (operator === "in" || operator === "not in") return wrap(contains(left, right) === (operator === "in"))
    if (operator === "~") return wrap(str(left) + str(right))
    const [a, b] = [textOf(left), textOf(right)]
    if (operator === "+" && a !== undefined && b !== undefined) return wrap(a + b)
    if (a !== undefined || b !== undefined)
      throw new Error(`${left.type} ${operator} ${right.type} is not possible here`)
    const rest: Node & Kinds["BinaryExpression"] = { ...node, left: known(left), right: known(right) }
    return super.evaluate(rest, environment)
  }

  #block(body: ReadonlyArray<Node>, environment: Environment): string {
    let text = ""
    for (const node of body) {
      try {
        text += textOf(this.evaluate(node, environment)) ?? ""
      } catch (error) {
        if (error instanceof Jump) error.text = text + error.text
        throw error
      }
    }
    return text
  }

  /** Each turn has a scope of its own. */
  #loop({ loopvar, iterable, body, defaultBlock }: Kinds["For"], environment: Environment): Value {
    const select = is(iterable, "SelectExpression") ? iterable : undefined
    const source = this.evaluate(select?.lhs ?? iterable, environment)
    const all = itemsOf(source)
    if (all === undefined) throw new Error(`a ${source.type} cannot be looped over`)
    const scopeOf = (item: Value) => bound(new Environment(environment), loopvar, item)
    const items = all.filter(
      (item) => select === undefined || this.evaluate(select.test, scopeOf(item)).__bool__().value,
    )
    if (items.length === 0) return wrap(this.#block(defaultBlock, environment))
    let text = ""
    for (const [i, item] of items.entries()) {
      const scope = scopeOf(item)
      scope.setVariable("loop", loopOf(items, i))
      try {
        text += this.#block(body, scope)
      } catch (error) {
        if (!(error instanceof Jump)) throw error
        text += error.text
        if (error.ends) break
      }
    }
    return wrap(text)
  }

  #member(node: Node & Kinds["MemberExpression"], environment: Environment): Value {
    const object = this.evaluate(node.object, environment)
    if (isUndefined(object)) throw new Error(`${nameOf(node.object)} is undefined`)
    const within = { ...node, object: known(object) }
    if (node.property.type === "SliceExpression") return super.evaluate(within, environment)
    const key =
      node.computed || !is(node.property, "Identifier") ? this.evaluate(node.property, environment) : undefined
    const name = key === undefined && is(node.property, "Identifier") ? node.property.value : undefined
    const [text, list] = [textOf(object), listOf(object)]
    const at = key === undefined ? undefined : numberOf(key)
    if (text !== undefined && at !== undefined) return wrap(Array.from(text).at(at))
    if (isNone(object) || (name === "length" && (text !== undefined || list !== undefined))) return wrap(undefined)
    if (key !== undefined && textOf(key) === undefined && mapOf(object) !== undefined) return wrap(undefined)
    return super.evaluate(key === undefined ? within : { ...within, property: known(key) }, environment)
  }

  /** A macro of the template knows what the template knows, and nothing of where it is called. */
  #function(node: Node & Kinds["CallExpression"], callee: Node, environment: Environment): Value {
    const macro = this.evaluate(callee, environment)
    if (this.evaluate(callee, this.global) !== macro) return super.evaluate(node, environment)
    const args = node.args.map((argument) => this.#evaluated(argument, environment))
    const call: Node & Kinds["CallExpression"] = { ...node, callee: known(macro), args }
    return super.evaluate(call, this.global)
  }

  /** An argument of which the value is known. */
  #evaluated(argument: Node, environment: Environment): Node {
    const of = (node: Node) => known(this.evaluate(node, environment))
    if (is(argument, "KeywordArgumentExpression")) return kept({ ...argument, value: of(argument.value) })
    if (is(argument, "SpreadExpression")) return kept({ ...argument, argument: of(argument.argument) })
    if (is(argument, "KeywordSpreadExpression")) return kept({ ...argument, argument: of(argument.argument) })
    return of(argument)
  }

  #called(node: Node & Kinds["CallExpression"], environment: Environment): Value {
    const { callee, args } = node
    if (is(callee, "Identifier")) return this.#function(node, callee, environment)
    if (!is(callee, "MemberExpression")) return super.evaluate(node, environment)
    const object = this.evaluate(callee.object, environment)
    const name = !callee.computed && is(callee.property, "Identifier") ? callee.property.value : ""
    const own = textOf(object) === undefined ? undefined : methods.get(name)
    if (own !== undefined) return own(object, this.#given(args, environment))
    const inside: Node & Kinds["MemberExpression"] = { ...callee, object: known(object) }
    const within: Node & Kinds["CallExpression"] = { ...node, callee: inside }
    return super.evaluate(within, environment)
  }
}

const nameOf = (node: Node): string => {
  if (is(node, "Identifier")) return node.value
  return is(node, "MemberExpression") ? `${nameOf(node.object)}.${nameOf(node.property)}` : "what is looked into"
}

const bound = (scope: Environment, loopvar: Node, item: Value): Environment => {
  if (is(loopvar, "Identifier")) scope.setVariable(loopvar.value, item)
  if (!is(loopvar, "TupleLiteral")) return scope
  const parts = itemsOf(item)
  if (parts?.length !== loopvar.value.length) throw new Error(`a loop's ${loopvar.value.length} variables do not fit`)
  loopvar.value.forEach((one, i) => bound(scope, one, parts[i] ?? wrap(undefined)))
  return scope
}

const loopOf = (items: ReadonlyArray<Value>, i: number): Value => {
  const loop = wrap({
    ...{ index: i + 1, index0: i, revindex: items.length - i, revindex0: items.length - i - 1 },
    ...{ first: i === 0, last: i === items.length - 1, length: items.length, depth: 1, depth0: 0 },
  })
  if (loop.value instanceof Map) {
    loop.value.set("previtem", items[i - 1] ?? wrap(undefined))
    loop.value.set("nextitem", items[i + 1] ?? wrap(undefined))
  }
  return loop
}

/** What every template knows, and what it is given. */
export const rendered = (program: Node, given: Readonly<Record<string, unknown>>, now: Date): string => {
  const environment = new Environment()
  const constants = { true: true, True: true, false: false, False: false, none: null, None: null }
  for (const [name, value] of Object.entries({ ...constants, ...functionsAt(now), ...given }))
    environment.set(name, value)
  return str(new PythonInterpreter(environment).run(program))
}

const functionsAt = (now: Date) => ({
  range: (from: number, to?: number, step = 1) => Array.from(counting(to === undefined ? 0 : from, to ?? from, step)),
  raise_exception: (message: unknown) => {
    throw new Error(String(message))
  },
  strftime_now: (format: string) =>
    format.replaceAll(/%-?./gs, (directive) => {
      const written = DATES[directive]?.(now)
      if (written === undefined) throw new Error(`strftime_now does not know ${directive} here`)
      return written
    }),
})

function* counting(from: number, to: number, step: number) {
  if (step === 0) throw new Error("range needs a step")
  for (let i = from; step > 0 ? i < to : i > to; i += step) yield i
}

const two = (number: number): string => String(number).padStart(2, "0")
const inWords = (now: Date, options: Intl.DateTimeFormatOptions) =>
  new Intl.DateTimeFormat("en-US", options).format(now)

const DATES: Readonly<Record<string, (now: Date) => string>> = {
  "%Y": (now) => String(now.getFullYear()),
  "%y": (now) => two(now.getFullYear() % 100),
  "%m": (now) => two(now.getMonth() + 1),
  "%d": (now) => two(now.getDate()),
  "%-d": (now) => String(now.getDate()),
  "%B": (now) => inWords(now, { month: "long" }),
  "%b": (now) => inWords(now, { month: "short" }),
  "%A": (now) => inWords(now, { weekday: "long" }),
  "%a": (now) => inWords(now, { weekday: "short" }),
  "%H": (now) => two(now.getHours()),
  "%M": (now) => two(now.getMinutes()),
  "%S": (now) => two(now.getSeconds()),
  "%%": () => "%",
}
