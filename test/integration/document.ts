// The commands of a document, for tests that type them as they stand.
import { readFileSync } from "node:fs"
import { join } from "node:path"

export const ROOT = join(import.meta.dirname, "../..")

/** The blocks of one language below a heading; a shell's line that goes on in the next one is one line. */
export const blocksOf = (document: string, heading: string, language = "sh"): ReadonlyArray<string> => {
  const [, section] = readFileSync(join(ROOT, document), "utf8").split(new RegExp(`^## ${heading}$`, "m"))
  if (section === undefined) throw new Error(`${document} has no section ${heading}`)
  const [own = ""] = section.split(/^## /m)
  return [...own.matchAll(new RegExp(`^\\x60{3}${language}\\n(.*?)^\\x60{3}`, "gms"))].map(([, text = ""]) =>
    language === "sh" ? text.replaceAll(/\\\n\s*/g, "") : text,
  )
}

export const linesOf = (block: string | undefined): ReadonlyArray<string> =>
  (block ?? "").split("\n").filter((line) => line !== "")

/** What exports set in a shell, in the folder of the repository. */
export const exported = (lines: ReadonlyArray<string>): string =>
  lines
    .filter((line) => line.startsWith("export "))
    .map((line) => `PWD="${ROOT}" eval '${line}'\n`)
    .join("")
