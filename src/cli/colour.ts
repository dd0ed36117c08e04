// Colour on terminals: whether it is wanted, and how tokens are told apart. The rest of the command line knows no escape.
import type { TokenOrigin } from "../wire/infer.ts"

/** Whether to colour what goes to a stream: on terminals, unless NO_COLOR is set; FORCE_COLOR asks for it elsewhere. */
export const wantsColour = (
  stream: { readonly isTTY?: boolean | undefined },
  environment: NodeJS.ProcessEnv,
): boolean => {
  if (environment.NO_COLOR !== undefined && environment.NO_COLOR !== "") return false
  if (environment.FORCE_COLOR !== undefined && environment.FORCE_COLOR !== "") return environment.FORCE_COLOR !== "0"
  return stream.isTTY === true && environment.TERM !== "dumb"
}

const RESET = "\u001b[0m"
const CODES = { bold: "\u001b[1m", dim: "\u001b[2m", green: "\u001b[32m", yellow: "\u001b[33m" } as const

export type Ink = keyof typeof CODES

const INK_OF_ORIGIN: Record<TokenOrigin, Ink | null> = { drafted: "green", corrected: "yellow", plain: null }

/** Colours a piece of text, or leaves it as it is. */
export const inker =
  (coloured: boolean) =>
  (ink: Ink | null, text: string): string =>
    coloured && ink !== null && text !== "" ? `${CODES[ink]}${text}${RESET}` : text

/** A token's text for a terminal: coloured by its origin, and with nothing in it that would steer the terminal. */
export const paintToken = (coloured: boolean, token: { readonly text: string; readonly origin: TokenOrigin }): string =>
  inker(coloured)(INK_OF_ORIGIN[token.origin], visible(token.text))

/** Control characters but for newline and tab, made visible: a model may write escape sequences. */
export const visible = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  text.replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, (control) => {
    const code = control.charCodeAt(0)
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : "\ufffd"
  })

export const legend = (coloured: boolean): string => {
  const ink = inker(coloured)
  return `${ink("green", "drafted and accepted")}, ${ink("yellow", "the base's own where a draft ended")}, decoded alone`
}
