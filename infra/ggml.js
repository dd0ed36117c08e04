// ggml: its headers (and sources) from the release that npm's ready-built binaries were made from, and its CUDA backend
// where a driver can use it.
import { existsSync, readdirSync, renameSync, statSync } from "node:fs"
import { basename, join } from "node:path"
import { download, pack } from "./download.js"
import { cuda, cuda12, llama } from "./pins.js"
import { inRoot, packageFolder, place, run, scratch, which } from "./workspace.js"

export const sources = inRoot(".chorus/ggml") // include/, src/, CMakeLists.txt
const cudaFolder = inRoot(".chorus/cuda")

export const headers = {
  title: "ggml's headers",
  tools: ["npm", "git", "tar"],
  done: () => existsSync(join(sources, "include/ggml.h")),
  async run() {
    const folder = scratch()
    const tarball = await pack(llama, folder)
    const bundle = "package/llama/gitRelease.bundle"
    await run("tar", ["-xzf", tarball, bundle], { cwd: folder })
    const tree = join(folder, "tree")
    await run("git", ["clone", "--quiet", "--no-checkout", join(folder, bundle), tree])
    await run("git", ["-C", tree, "sparse-checkout", "set", "ggml"])
    await run("git", ["-C", tree, "checkout", "--quiet"])
    place(join(tree, "ggml"), sources)
  },
}

/** Where ggml's ready-built libraries for this platform lie, or undefined where npm has none. */
export const readyBuilt = () => {
  const variant = { "linux-x64": "linux-x64", "linux-arm64": "linux-arm64", "darwin-arm64": "mac-arm64-metal" }[
    `${process.platform}-${process.arch}`
  ]
  const folder = variant && packageFolder(`@node-llama-cpp/${variant}`)
  return folder && join(folder, "bins", variant)
}

/** The folder that the CUDA backend was brought to, or undefined. */
export const cudaBackends = () => (existsSync(cudaFolder) ? cudaFolder : undefined)

/** The step that brings the CUDA backend (none where it is built from source), or the reason why the CPU will serve. */
export const cudaStep = async ({ fromSource }) => {
  const version = await driver()
  if (version === undefined) return "there is no NVIDIA driver here (no nvidia-smi, no libcuda.so.1)"
  if (version < 12) return `the driver speaks CUDA ${version}, and ggml's backend wants 12 or newer: update the driver`
  if (fromSource) return undefined
  if (`${process.platform}-${process.arch}` !== "linux-x64") {
    return `npm has ggml's CUDA backend for linux-x64 only; with nvcc, CHORUS_GGML=source npm run setup -- --cuda builds it`
  }
  return {
    title: `ggml's CUDA backend and the CUDA ${version >= 13 ? 13 : 12} libraries (up to 900 MB)`,
    tools: ["npm", "tar", "Python 3 with pip"],
    done: () => cudaBackends() !== undefined,
    run: () => bringCuda(version >= 13 ? 13 : 12),
  }
}

/** The major version of CUDA that the driver speaks, or undefined without a driver. */
const driver = async () => {
  const { CHORUS_CUDA: said } = process.env // there is no driver where an image is built
  if (said !== undefined && said !== "") return Number(said)
  const told = which("nvidia-smi") && (await run("nvidia-smi", []).catch(() => ""))
  const version = told && /CUDA Version:\s*(\d+)/.exec(told)
  if (version) return Number(version[1])
  const libraries = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/aarch64-linux-gnu", "/usr/lib/wsl/lib"]
  return libraries.some((folder) => existsSync(join(folder, "libcuda.so.1"))) ? 12 : undefined
}

const bringCuda = async (major) => {
  const folder = scratch()
  await run("tar", ["-xzf", await pack(cuda, folder)], { cwd: folder })
  const backends = join(folder, "package/bins/linux-x64-cuda")
  if (major === 12) {
    await run("tar", ["-xzf", await pack(cuda12, folder)], { cwd: folder })
    renameSync(join(backends, "fallback/libggml-cuda.so"), join(backends, "libggml-cuda.so"))
  }
  const wheels = await download(`infra/cuda-${major}.txt`, folder)
  for (const wheel of wheels) await run("python3", ["-m", "zipfile", "-e", wheel, join(folder, "wheels")])
  // The backend looks for libraries beside itself first.
  for (const file of filesIn(join(folder, "wheels"))) {
    if (/^lib(cudart|cublas|cublasLt)\.so\.\d+$/.test(basename(file))) renameSync(file, join(backends, basename(file)))
  }
  place(backends, cudaFolder)
}

/** Every file below a folder. */
export const filesIn = (folder) =>
  readdirSync(folder).flatMap((name) => {
    const path = join(folder, name)
    return statSync(path).isDirectory() ? filesIn(path) : [path]
  })
