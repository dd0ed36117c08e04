// The native module: Chorus's own C++ against ggml, ready-built or, where there is none or it is asked for, from source.
import { createHash } from "node:crypto"
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs"
import { cpus } from "node:os"
import { basename, delimiter, dirname, join, relative, resolve } from "node:path"
import { cudaBackends, filesIn, readyBuilt, sources } from "./ggml.js"
import { node24, packagesOf } from "./packages.js"
import { llama } from "./pins.js"
import { inRoot, packageFolder, place, run, SetupFailed, scratch, which } from "./workspace.js"

const module = inRoot("build/Release/chorus.node")
const stamp = inRoot("build/Release/chorus.json") // what the module was built from
const backends = inRoot(".chorus/backends") // a link to the folder that the module loads ggml's backends from
const tree = inRoot(".chorus/build")
const unfinished = join(tree, "unfinished")

/** `cuda`: build the CUDA backend too, when building from source. */
export const native = ({ cuda }) => ({
  get title() {
    return way(cuda).from === "source" ? "the native module, and ggml from source" : "the native module"
  },
  tools: ["CMake", "a C++17 compiler", "make or ninja"],
  done: () => existsSync(module) && recorded()?.digest === digest(way(cuda)),
  async run() {
    const chosen = way(cuda)
    if (chosen.cuda && which("nvcc") === undefined) {
      throw new SetupFailed(
        "ggml's CUDA backend is built by nvcc, which is not on PATH: install the CUDA toolkit, or leave out --cuda.",
      )
    }
    // A build that was killed may have left a file that looks newer than it is whole.
    if (existsSync(unfinished) || recorded()?.digest !== digest(chosen))
      rmSync(join(tree, "CMakeCache.txt"), { force: true })
    if (existsSync(unfinished)) rmSync(tree, { recursive: true, force: true })
    mkdirSync(tree, { recursive: true })
    writeFileSync(unfinished, "")
    const env = { PATH: [dirname(node24()), process.env.PATH].join(delimiter) } // CMakeLists.txt asks node for headers
    const cmakeJs = join(packageFolder("cmake-js"), "bin/cmake-js")
    const cmake = (command) => run(node24(), [cmakeJs, command, "--out", tree, ...definitions(chosen)], { env })
    await cmake("configure")
    await cmake("build")
    const copy = join(scratch(), "chorus.node")
    cpSync(join(tree, "Release/chorus.node"), copy)
    await run(node24(), ["-e", "require(process.argv[1])", copy])
    place(copy, module) // by a new file: processes that run keep the one they have
    rmSync(unfinished)
    const record = join(scratch(), "chorus.json")
    writeFileSync(record, JSON.stringify({ ...chosen, digest: digest(chosen) }, null, 2))
    place(record, stamp)
  },
})

/** Whether the link by which the running system finds ggml's backends is right; `linkBackends` makes it so. */
export const backendsLinked = () => linked() === backendsFolder()
export const linkBackends = () => {
  if (backendsLinked()) return
  const link = join(scratch(), "backends")
  symlinkSync(backendsFolder(), link)
  renameSync(link, backends)
}

const linked = () => {
  try {
    return readlinkSync(backends)
  } catch {
    return undefined
  }
}

const backendsFolder = () => {
  if (recorded()?.from !== "source") return cudaBackends() ?? readyBuilt()
  const library = filesIn(tree).find((file) => /^libggml-cpu.*\.(so|dylib)$/.test(basename(file)))
  return library ? dirname(library) : join(tree, "Release")
}

const recorded = () => {
  try {
    return JSON.parse(readFileSync(stamp, "utf8"))
  } catch {
    return undefined
  }
}

/** Whether ggml is to be built from source as far as can be said before the packages are here. */
export const fromSource = () => (asked() ?? recorded()?.from) === "source"

const asked = () => {
  const said = process.env.CHORUS_GGML ?? (process.env.GGML_SOURCE_DIR ? "source" : undefined)
  if (said !== undefined && said !== "source" && said !== "ready") {
    throw new SetupFailed(`CHORUS_GGML is "${said}"; expected "ready" (npm's binaries) or "source".`)
  }
  return said
}

/** CHORUS_GGML says where ggml comes from; without it, what was said last time; else ready-built where npm has it. */
export const way = (cuda) => {
  const last = recorded()
  const from = asked() ?? last?.from ?? (readyBuilt() ? "ready" : "source")
  if (from === "ready") {
    if (packageFolder("cmake-js") && !readyBuilt()) {
      throw new SetupFailed(
        `npm has no ready-built ggml for ${process.platform}-${process.arch}: use CHORUS_GGML=source.`,
      )
    }
    return { from }
  }
  const goesOn = asked() === undefined && last?.from === "source"
  return { from, folder: sourceFolder(goesOn ? last.folder : sources), cuda: cuda || (goesOn && last.cuda) }
}

const sourceFolder = (otherwise) => {
  const folder = process.env.GGML_SOURCE_DIR ? resolve(process.env.GGML_SOURCE_DIR) : otherwise
  if (folder === sources || existsSync(join(folder, "include/ggml.h"))) return folder
  throw new SetupFailed(
    `GGML_SOURCE_DIR is ${folder}, and there is no include/ggml.h in it: name the folder ggml/ of llama.cpp, or ggml's own repository.`,
  )
}

export const definitions = (chosen) => {
  const values =
    chosen.from === "source"
      ? { GGML_SOURCE_DIR: chosen.folder, GGML_CUDA: chosen.cuda ? "ON" : "OFF" }
      : { GGML_HEADERS: join(sources, "include"), GGML_BIN: readyBuilt() }
  return [...Object.entries(values).map(([name, value]) => `--CD${name}=${value}`), "--parallel", String(cpus().length)]
}

/** Of everything that goes into the module. Built modules name libraries by their full paths, so the place counts too. */
const digest = (chosen) => {
  const hash = createHash("sha256").update(
    JSON.stringify([chosen, llama.integrity, process.platform, process.arch, inRoot()]),
  )
  const locked = packagesOf(inRoot("package-lock.json")) ?? {}
  for (const [path, { integrity }] of Object.entries(locked)) {
    if (/cmake-js|node-addon-api|node-api-headers|@node-llama-cpp/.test(path)) hash.update(`${path} ${integrity}`)
  }
  const files = [
    inRoot("CMakeLists.txt"),
    ...filesIn(inRoot("native"))
      .filter((file) => !file.endsWith(".ts"))
      .sort(),
  ]
  for (const file of files) hash.update(`\0${relative(inRoot(), file)}\0`).update(readFileSync(file))
  return hash.digest("hex")
}
