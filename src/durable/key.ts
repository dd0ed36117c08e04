// Names as tokens of a key. What a key cannot have is =XX, as in quoted-printable.

const EMPTY = "="

export const keyPart = (name: string): string =>
  [...Buffer.from(name)]
    .map((byte) => String.fromCharCode(byte))
    .map((char) => (/[A-Za-z0-9_-]/.test(char) ? char : `=${char.charCodeAt(0).toString(16).padStart(2, "0")}`))
    .join("") || EMPTY

/** The name that a token stands for. */
export const nameOf = (part: string): string => {
  if (part === EMPTY) return ""
  const bytes = part.replaceAll(/=(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
  return Buffer.from(bytes, "latin1").toString()
}
