// node packages/build.js
// Builds @chorus/client and @chorus/durable, each into its dist/: one file a public entry, what they share in
// dist/internal, and the declarations of the package's own sources. Those name no file of src/, so that a caller's
// editor shows the public face and nothing behind it.
import { spawnSync } from "node:child_process"
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { rolldown } from "rolldown"

const ROOT = join(import.meta.dirname, "..")
const PACKAGES = ["client", "durable"]

/** The sources read their version from package.json, which lies elsewhere in a package. */
const version = {
  name: "version",
  load(id) {
    const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"))
    return id === join(ROOT, "src/bus/version.ts") ? `export const VERSION = ${JSON.stringify(version)}` : null
  },
}

/** What a package exports, by name. */
const entriesOf = (folder) => {
  const { exports } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"))
  return Object.values(exports).flatMap((entry) => /^\.\/dist\/(\w+)\.js$/.exec(entry?.default ?? "")?.[1] ?? [])
}

/** The JavaScript: what other packages have stays theirs. */
const bundle = async (folder) => {
  const sources = [...entriesOf(folder), "runtime"].map((name) => [name, join(folder, "src", `${name}.ts`)])
  const build = await rolldown({
    input: Object.fromEntries(sources.filter(([, file]) => existsSync(file))),
    platform: "node",
    plugins: [version],
    external: /^[^./]/,
    // Nothing of ours does anything when it is loaded, so what is not reached falls away, and its imports with it.
    treeshake: {
      moduleSideEffects: (id) => id.endsWith("runtime.ts"),
      manualPureFunctions: ["Context", "Effect", "Layer", "Schema", "codec"],
    },
  })
  await build.write({ dir: join(folder, "dist"), entryFileNames: "[name].js", chunkFileNames: "internal/[name].js" })
  await build.close()
}

/** The types, of all packages at once. */
const declare = (scratch) => {
  const tsc = join(ROOT, "node_modules/typescript/bin/tsc")
  const options = [
    "--noEmit",
    "false",
    "--declaration",
    "--emitDeclarationOnly",
    "--rootDir",
    ROOT,
    "--outDir",
    scratch,
  ]
  const { status, stdout, stderr } = spawnSync(process.execPath, [tsc, "-p", join(ROOT, "packages"), ...options], {
    encoding: "utf8",
  })
  if (status !== 0) throw new Error(`${stdout}${stderr}`)
}

/** The files of declarations that entries lead to. */
const reached = (folder, entries) => {
  const files = new Set(entries.map((entry) => `${entry}.d.ts`))
  for (const file of files) {
    for (const [, path] of readFileSync(join(folder, file), "utf8").matchAll(/(?:from|import) "(\.[^"]+)\.ts"/g)) {
      if (!path.startsWith("./")) throw new Error(`${file} shows ${path}.ts, which is not the package's own`)
      files.add(`${path.slice(2)}.d.ts`)
    }
  }
  return files
}

const scratch = mkdtempSync(join(tmpdir(), "chorus-declarations-"))
try {
  declare(scratch)
  for (const name of PACKAGES) {
    const folder = join(ROOT, "packages", name)
    rmSync(join(folder, "dist"), { recursive: true, force: true })
    await bundle(folder)
    const declarations = join(scratch, "packages", name, "src")
    for (const file of reached(declarations, entriesOf(folder)))
      cpSync(join(declarations, file), join(folder, "dist", file))
    cpSync(join(ROOT, "LICENSE"), join(folder, "LICENSE"))
  }
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
