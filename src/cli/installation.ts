// What `chorus doctor` looks at: every part that a generation needs, whether it is there, and what brings it.
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { Effect } from "effect"
import type { Device } from "../../native/index.ts"
import { modelsFolder, storedModels } from "../hub/folder.ts"
import { warningsOf } from "../model/index.ts"
import { findNatsServer } from "../natsServer/natsServer.ts"
import { DEMO_PAIR, root } from "./placement.ts"
import { oneLine } from "./presenter.ts"
import { bytes } from "./quantities.ts"

export interface Finding {
  readonly part: string
  readonly state: "ok" | "missing" | "absent" // absent: nothing fails without it
  readonly detail: string
  readonly remedy: string // empty where nothing is to be done
}

export interface Diagnosis {
  readonly findings: ReadonlyArray<Finding>
  readonly devices: ReadonlyArray<Device>
}

const BACKENDS = join(root, ".chorus/backends") // the set-up's link to ggml's backends

const SETUP = "npm run setup"

export const diagnose = Effect.gen(function* () {
  const backends = ggmlBackends()
  const native = yield* nativeModule
  const findings = [
    node(),
    native.finding,
    ggml(backends),
    yield* natsServer,
    gpuDriver(backends),
    demoPair(),
    otherModels(modelsFolder(process.env)),
  ]
  return { findings, devices: native.devices } satisfies Diagnosis
})

const NODE_MINIMUM = [24, 3] as const

const node = (): Finding => {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)
  const enough = major > NODE_MINIMUM[0] || (major === NODE_MINIMUM[0] && minor >= NODE_MINIMUM[1])
  return {
    part: "Node",
    state: enough ? "ok" : "missing",
    detail: `${process.version}, ${process.execPath}`,
    remedy: enough ? "" : SETUP,
  }
}

const nativeModule = Effect.tryPromise(async () => {
  const { native } = await import("../../native/index.ts") // it may not have been built, or not load
  native.loadBackends(BACKENDS)
  return native.devices()
}).pipe(
  Effect.map((devices) => ({
    finding: { part: "native module", state: "ok", detail: "build/Release/chorus.node", remedy: "" } as Finding,
    devices,
  })),
  Effect.catch((error) => {
    const detail = oneLine(String(error.cause instanceof Error ? error.cause.message : error.cause))
    const finding: Finding = { part: "native module", state: "missing", detail, remedy: SETUP }
    return Effect.succeed({ finding, devices: [] as ReadonlyArray<Device> })
  }),
)

/** File names of ggml's backends: libggml-cpu-icelake.so, libggml-cuda.so, ... */
const ggmlBackends = (): ReadonlyArray<string> => {
  try {
    return readdirSync(BACKENDS).filter((file) => /^libggml-.*\.(so|dylib)$/.test(file) && !file.includes("base"))
  } catch {
    return []
  }
}

const ggml = (backends: ReadonlyArray<string>): Finding => {
  const variants = backends.map((file) => file.replace(/^libggml-|\.(so|dylib)$/g, ""))
  const there = variants.length > 0
  return {
    part: "ggml",
    state: there ? "ok" : "missing",
    detail: there ? variants.join(", ") : `no backends in ${BACKENDS}`,
    remedy: there ? "" : SETUP,
  }
}

const natsServer = findNatsServer.pipe(
  Effect.map(
    ({ path, version }): Finding => ({ part: "nats-server", state: "ok", detail: `${version}, ${path}`, remedy: "" }),
  ),
  Effect.catch((error) =>
    Effect.succeed<Finding>({ part: "nats-server", state: "missing", detail: error.message, remedy: SETUP }),
  ),
)

/** The kernel's word for it; nvidia-smi need not be installed for CUDA to work. */
const NVIDIA = "/proc/driver/nvidia/version"

const gpuDriver = (backends: ReadonlyArray<string>): Finding => {
  if (process.platform === "darwin") return { part: "GPU driver", state: "ok", detail: "Metal", remedy: "" }
  if (!existsSync(NVIDIA)) {
    return { part: "GPU driver", state: "absent", detail: "no NVIDIA driver; the CPU serves", remedy: "" }
  }
  const version = /Module\s+(?:for \S+\s+)?(\d+\S*)/.exec(readFileSync(NVIDIA, "utf8"))?.[1] ?? "of unknown version"
  const cuda = backends.some((file) => file.includes("cuda"))
  return {
    part: "GPU driver",
    state: cuda ? "ok" : "absent",
    detail: `NVIDIA ${version}${cuda ? "" : ", but not ggml's CUDA backend; the CPU serves"}`,
    remedy: cuda ? "" : `${SETUP} -- --cuda`,
  }
}

const demoPair = (): Finding => {
  const there = Object.values(DEMO_PAIR).every((path) => existsSync(join(path, "model.safetensors")))
  return {
    part: "demo pair",
    state: there ? "ok" : "missing",
    detail: join(root, "models/demo"),
    remedy: there ? "" : "git checkout -- models/demo",
  }
}

const otherModels = (folder: string): Finding => {
  const stored = storedModels(folder)
  const models = stored.map(({ name, bytes: size }) => (size === null ? name : `${name} (${bytes(size)})`))
  const there = models.length > 0
  return {
    part: "models",
    state: there ? "ok" : "absent",
    detail: there ? `${folder}: ${models.join(", ")}` : `none in ${folder}`,
    remedy: there
      ? stored.flatMap(({ path, bytes: size }) => (size === null ? [] : warningsOf(path))).join("; ")
      : "chorus pull OWNER/NAME brings one from the Hugging Face hub; or put GGUF files or Hugging Face folders there",
  }
}
