// node infra/sanitized.js
// Builds the native module once more, with AddressSanitizer and UndefinedBehaviorSanitizer, into .chorus/sanitized. The one
// that Chorus runs with stays as it is. `npm run fuzz` calls this after the set-up.
import { delimiter, dirname } from "node:path"
import { definitions, way } from "./native.js"
import { node24 } from "./packages.js"
import { inRoot, run, SetupFailed } from "./workspace.js"

const tree = inRoot(".chorus/sanitized")

if (process.platform !== "linux") throw new SetupFailed("The sanitized module is built on Linux.")
const env = { PATH: [dirname(node24()), process.env.PATH].join(delimiter) }
const cmakeJs = inRoot("node_modules/cmake-js/bin/cmake-js")
for (const command of ["configure", "build"]) {
  await run(node24(), [cmakeJs, command, "--out", tree, ...definitions(way(false)), "--CDCHORUS_SANITIZE=ON"], { env })
}
