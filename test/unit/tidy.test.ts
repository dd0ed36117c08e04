// The style that a machine can check: imports point one way, every export has an importer, nothing is left for later,
// types, format and lint are clean, and what the documents name exists.
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { basename, dirname, join, relative } from "node:path"
import { expect, test } from "vitest"

const ROOT = join(import.meta.dirname, "../..")
const text = (file: string): string => readFileSync(join(ROOT, file), "utf8")

const run = (program: string, ...args: ReadonlyArray<string>) => {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: ROOT, encoding: "utf8", maxBuffer: 1 << 26 })
  return { status, output: `${stdout}${stderr}` }
}

/** Tracked files, and new ones that are not ignored. */
const files = run("git", "ls-files", "--cached", "--others", "--exclude-standard")
  .output.split("\n")
  .filter((file) => file !== "" && existsSync(join(ROOT, file)))
const sources = files.filter((file) => /^(src|actors|native|bench|packages)\/.*\.ts$/.test(file))
const typescript = files.filter((file) => file.endsWith(".ts"))

/** Paths from the root, of types too. */
const importsOf = (file: string): ReadonlyArray<string> =>
  [...text(file).matchAll(/^(?:import|export)\s[^"']*?["'](\.{1,2}\/[^"']+)["']|import\(["'](\.[^"']+)["']\)/gms)].map(
    ([, path, dynamicPath]) => relative(ROOT, join(ROOT, dirname(file), path ?? dynamicPath ?? "")),
  )

// What stands later may import what stands before; folders of one line are apart.
const LAYERS = [
  ["native"],
  ["src/wire"],
  ["src/bus", "src/hub", "src/model", "src/speculation"],
  ["src/group", "src/natsServer", "src/store"],
  ["src/client", "src/durable", "src/host", "src/rank"],
  ["src/planner"],
  ["src/controller", "src/generation"],
  ["src/replica"],
  ["src/session", "src/local"],
  ["src/gateway"],
  ["src/chaos"],
  ["src/cli"],
  ["actors", "bench", "packages"],
]

const folderOf = (file: string): string => /^(src\/[^/]+|[^/]+)/.exec(file)?.[0] ?? file
const layerOf = (file: string): number => LAYERS.findIndex((folders) => folders.includes(folderOf(file)))

test("every folder of sources has its layer", () => {
  expect([...new Set(sources.filter((file) => layerOf(file) === -1).map(folderOf))]).toEqual([])
})

test("imports point one way", () => {
  const wrong = sources.flatMap((file) =>
    importsOf(file)
      .filter((target) => folderOf(target) !== folderOf(file) && layerOf(target) >= layerOf(file))
      .map((target) => `${file} imports ${target}`),
  )
  expect(wrong).toEqual([])
})

test("the protocol knows nothing of models, and the native module nothing of the rest", () => {
  const wrong = sources
    .filter((file) => /^(src\/wire|native)\//.test(file))
    .flatMap((file) => importsOf(file).map((target) => `${file} imports ${target}`))
    .filter((line) => !/^(\S+)\/\S+ imports (\1|build)\//.test(line))
  expect(wrong).toEqual([])
})

test("no two files need each other, not even for a type", () => {
  const needs = new Map(sources.map((file) => [file, importsOf(file)]))
  const cycles: Array<string> = []
  const done = new Set<string>()
  const visit = (file: string, path: ReadonlyArray<string>) => {
    const start = path.indexOf(file)
    if (start !== -1) cycles.push([...path.slice(start), file].join(" -> "))
    if (start !== -1 || done.has(file)) return
    for (const target of needs.get(file) ?? []) visit(target, [...path, file])
    done.add(file)
  }
  for (const file of sources) visit(file, [])
  expect(cycles).toEqual([])
})

test("every export has an importer", () => {
  // Types and errors that stand in a signature belong to it; values are exported for an importer.
  const importers = new Map<string, Array<string>>()
  for (const file of typescript) {
    for (const target of importsOf(file)) importers.set(target, [...(importers.get(target) ?? []), file])
  }
  const dead = sources
    .filter((file) => file !== "native/index.ts") // the contract with the addon, whole
    .filter((file) => !/^packages\/\w+\/src\/(index|effect|request|answer|errors)\.ts$/.test(file)) // for other projects
    .flatMap((file) =>
      [...text(file).matchAll(/^export (?:async )?(const|function\*?|class|interface|type) (\w+)/gm)]
        .filter(([, kind, name]) => {
          const word = new RegExp(`\\b${name}\\b`, "g")
          const inSignature = kind !== "const" && kind !== "function" && (text(file).match(word)?.length ?? 0) > 1
          return !inSignature && !(importers.get(file) ?? []).some((importer) => text(importer).match(word))
        })
        .map(([, , name]) => `${file}: ${name}`),
    )
  expect(dead).toEqual([])
})

test("nothing is left for later", () => {
  const marker = new RegExp(`\\b(${["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"].join("|")})\\b`)
  const marked = files
    .filter((file) => /\.(ts|js|cpp|h|md|sh|conf|yml|txt)$|^\.ci\//.test(file) && !file.startsWith("models/"))
    .flatMap((file) =>
      text(file)
        .split("\n")
        .flatMap((line, index) => (marker.test(line) ? [`${file}:${index + 1}: ${line.trim()}`] : [])),
    )
  expect(marked).toEqual([])
})

test("the files of ours that comments name exist", () => {
  const basenames = new Set(files.map((file) => basename(file)))
  const exists = (path: string) =>
    path.includes("/") ? files.some((file) => file === path || file.endsWith(`/${path}`)) : basenames.has(path)
  const stale = files
    .filter((file) => /^(src|actors|native|bench|packages|test|infra|bin)\/.*\.(ts|js|cpp|hpp|inl)$/.test(file))
    .flatMap((file) =>
      text(file)
        .split("\n")
        .flatMap((line) => [...line.matchAll(/(?:^|\s)(?:\/\/|\/?\*\*?)\s(.*)$/g)].map(([, comment]) => comment ?? ""))
        .flatMap((comment) =>
          [...comment.matchAll(/(?<![\w./-])[\w/-]+\.(?:ts|js|hpp|md|sh)\b/g)].map(([name]) => name),
        )
        .filter((name) => !exists(name))
        .map((name) => `${file}: ${name}`),
    )
  expect(stale).toEqual([])
})

test("types are sound", { timeout: 180_000 }, () => {
  const { status, output } = run(process.execPath, "node_modules/typescript/bin/tsc", "--noEmit")
  expect(output).toBe("")
  expect(status).toBe(0)
})

test("format and lint are clean", { timeout: 180_000 }, () => {
  const { status, output } = run("node_modules/.bin/biome", "check", "--error-on-warnings", "--colors=off")
  expect(output).toMatch(/Checked \d+ files/)
  expect(output).not.toMatch(/Found \d+/)
  expect(status).toBe(0)
})

const readme = text("README.md")

test.each(["README.md", "CONTRIBUTING.md"])("the npm commands of %s exist", (document) => {
  const { scripts }: { scripts: Record<string, string> } = JSON.parse(text("package.json"))
  const named = [...text(document).matchAll(/npm (?:run ([\w:-]+)|(test))/g)].map(([, script, test]) => script ?? test)
  expect(named).toContain("test")
  expect(named.filter((name) => name === undefined || scripts[name] === undefined)).toEqual([])
})

test("README's chorus commands exist", () => {
  const { output } = run(process.execPath, "src/cli/main.ts", "--help")
  const [, listed = ""] = output.split(/^SUBCOMMANDS$/m)
  const commands = [...listed.matchAll(/^ {2}([a-z]+) /gm)].map(([, name]) => name ?? "")
  const named = [...readme.matchAll(/\bchorus (?!--)([a-z]+)\b(?=[`\s])/g)].filter(inCode).map(([, name]) => name ?? "")
  expect(named).toContain("generate")
  expect(named.filter((name) => !commands.includes(name))).toEqual([])
})

/** Whether a match of the README stands in a code span or block. */
const inCode = (match: RegExpExecArray): boolean => {
  const before = readme.slice(0, match.index)
  const inBlock = (before.match(/^```/gm)?.length ?? 0) % 2 === 1
  const line = before.slice(before.lastIndexOf("\n") + 1)
  return inBlock || (line.match(/`/g)?.length ?? 0) % 2 === 1
}

const documents = files.filter((file) => /^(docs\/.*|[A-Z]+)\.md$/.test(file))

test.each(documents)("the files and headings that %s names exist", (document) => {
  const links = [...text(document).matchAll(/\]\((?!https?:)([^)\s#]*)(?:#([^)\s]+))?\)/g)].map(
    ([link, path, heading]) => ({
      link,
      file: path ? join(dirname(document), path) : document,
      heading,
    }),
  )
  const broken = links
    .filter(
      ({ file, heading }) =>
        !existsSync(join(ROOT, file)) || (heading !== undefined && !headings(file).includes(heading)),
    )
    .map(({ link }) => link)
  const spans = [...text(document).matchAll(/`((?:src|actors|native|infra|bin|test|models|bench)\/[\w./-]+)`/g)]
  const missing = spans.map(([, path]) => path ?? "").filter((path) => !existsSync(join(ROOT, path)))
  expect([...broken, ...missing]).toEqual([])
})

/** The anchors of a document's headings, as forges make them. */
const headings = (document: string): ReadonlyArray<string> =>
  [...text(document).matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    (heading ?? "")
      .toLowerCase()
      .replaceAll(/[^\w\s-]/g, "")
      .replaceAll(" ", "-"),
  )

test("every room has its page, and ARCHITECTURE.md leads there", () => {
  const rooms = ["native", ...new Set(files.flatMap((file) => /^src\/([^/]+)\//.exec(file)?.[1] ?? []))]
  const pages = files.flatMap((file) => /^docs\/architecture\/(.*)\.md$/.exec(file)?.[1] ?? [])
  const linked = [...text("ARCHITECTURE.md").matchAll(/\(docs\/architecture\/(\w+)\.md\)/g)].map(([, page]) => page)
  expect(pages).toEqual(expect.arrayContaining(rooms))
  expect(pages.filter((page) => !linked.includes(page))).toEqual([])
})
