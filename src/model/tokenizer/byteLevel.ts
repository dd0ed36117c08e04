// GPT-2's alphabet: every byte as a printable character, so that a vocabulary is text. Printable bytes stand for
// themselves, the others for the characters from U+0100 on.

const characters: ReadonlyArray<string> = (() => {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff)
  let next = 0x100
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : next++))
})()

const byteOfCharacter: ReadonlyMap<string, number> = new Map(characters.map((character, byte) => [character, byte]))

/** The whole alphabet, by byte. */
export const byteLevelAlphabet = characters

export const toByteLevel = (text: string): string => {
  let characters = ""
  for (const byte of new TextEncoder().encode(text)) characters += byteLevelAlphabet[byte]
  return characters
}

/** Characters outside the alphabet, which a sound vocabulary does not have, stand for themselves. */
export const fromByteLevel = (token: string): Uint8Array => {
  const bytes: Array<number> = []
  for (const character of token) {
    const byte = byteOfCharacter.get(character)
    if (byte === undefined) bytes.push(...new TextEncoder().encode(character))
    else bytes.push(byte)
  }
  return Uint8Array.from(bytes)
}
