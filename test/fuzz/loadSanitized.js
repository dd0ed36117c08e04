// --import this: a process that loads the native module gets the one that CHORUS_FUZZ_MODULE names.
import { registerHooks } from "node:module"
import { pathToFileURL } from "node:url"

const module = pathToFileURL(process.env.CHORUS_FUZZ_MODULE ?? "").href
registerHooks({
  resolve: (specifier, context, next) =>
    specifier.endsWith("/chorus.node") ? { url: module, shortCircuit: true } : next(specifier, context),
})
