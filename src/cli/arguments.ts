// What was typed, made plain for the parser: to that, what begins with a dash is a flag, so a prompt or a stop that does
// needs "=" between the flag and itself. Here a flag that takes a value has the argument behind it, as with getopt.
import { toggles } from "./flags.ts"

export const withValuesJoined = (args: ReadonlyArray<string>): ReadonlyArray<string> => {
  const [arg, value, ...rest] = args
  if (arg === undefined || arg === "--") return args // nothing that follows is a flag
  if (value?.startsWith("-") && takesValue(arg)) return [`${arg}=${value}`, ...withValuesJoined(rest)]
  return [arg, ...withValuesJoined(args.slice(1))]
}

const takesValue = (arg: string): boolean => {
  const [, name] = /^--?([a-z][a-z-]*)$/.exec(arg) ?? []
  return name !== undefined && !toggles.has(name.replace(/^no-/, ""))
}
