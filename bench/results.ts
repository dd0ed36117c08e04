// bench/RESULTS.md: a section for each benchmark, between markers, so that running one leaves the others alone.
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import type { Report } from "./benchmark.ts"
import { type MachineFacts, showMachine } from "./machine.ts"

const RESULTS = join(import.meta.dirname, "RESULTS.md")

const HEAD = `# Measurements

Each section is written by the command in it; the text between a section's markers is replaced when it is run again.
`

export const sectionOf = (name: string, { title, markdown }: Report, machine: MachineFacts, date: Date): string =>
  [
    `## ${title}`,
    `\`npm run bench -- ${name}\`, ${date.toISOString().slice(0, 10)}. ${showMachine(machine)}.`,
    markdown,
  ].join("\n\n")

/** Puts a section in its place, or at the end. */
export const writeSection = (name: string, section: string): void => {
  const text = existsSync(RESULTS) ? readFileSync(RESULTS, "utf8") : HEAD
  writeFileSync(RESULTS, withSection(text, name, section))
}

const withSection = (text: string, name: string, section: string): string => {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`]
  const marked = `${begin}\n${section}\n${end}`
  const [from, to] = [text.indexOf(begin), text.indexOf(end)]
  if (from === -1 || to < from) return `${text.trimEnd()}\n\n${marked}\n`
  return text.slice(0, from) + marked + text.slice(to + end.length)
}
