// How models of the hub are named: OWNER/NAME, and OWNER/NAME:QUANT where a repository holds a GGUF file for each
// quantisation.

export interface RepositoryName {
  readonly repository: string // OWNER/NAME
  readonly quant: string | null
}

const REPOSITORY = /^([A-Za-z0-9][\w.-]{0,95}\/[A-Za-z0-9][\w.-]{0,95})(?::([\w.-]{1,64}))?$/

/** Null where the text can be no such name. */
export const repositoryName = (text: string): RepositoryName | null => {
  const [, repository, quant = null] = REPOSITORY.exec(text) ?? []
  return repository === undefined || text.endsWith(".gguf") ? null : { repository, quant }
}

const SPLIT = /-(\d{5})-of-(\d{5})$/

const stemOf = (path: string): string => path.slice(path.lastIndexOf("/") + 1).replace(/\.gguf$/i, "")

/** Of how many files this GGUF is one; 1 where it is whole. */
export const partsOf = (path: string): number => Number(SPLIT.exec(stemOf(path))?.[2] ?? 1)

/** Files that are GGUF and no language model: image encoders, and what quantisation was measured by. */
export const isModelFile = (path: string): boolean => /\.gguf$/i.test(path) && !/mmproj|imatrix/i.test(stemOf(path))

const KNOWN = /(?:^|[-._])((?:UD-)?(?:I?Q\d\w*|TQ\d_\d|MXFP4\w*|BF16|FP?16|FP?32))$/i

/** What to write behind the colon for this file. */
export const quantOf = (path: string): string => {
  const stem = wholeStem(path)
  return KNOWN.exec(stem)?.[1] ?? stem
}

/** The files that a quantisation names: Q4_K_M is Model-Q4_K_M.gguf and model.q4_k_m.gguf, and all parts of a split one. */
export const ofQuant = (paths: ReadonlyArray<string>, quant: string): ReadonlyArray<string> => {
  const wanted = quant.toLowerCase()
  const exact = paths.filter((path) => quantOf(path).toLowerCase() === wanted)
  if (exact.length > 0) return exact
  return paths.filter((path) => ["-", "."].some((mark) => wholeStem(path).toLowerCase().endsWith(`${mark}${wanted}`)))
}

const wholeStem = (path: string): string => stemOf(path).replace(SPLIT, "")
