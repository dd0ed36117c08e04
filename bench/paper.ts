// What would EasySpec's layer parallelism give on hardware that is not here? The product's schedule in virtual time
// (src/planner) beside the paper's figures. Nothing is measured in this run: what the model is worth on this machine is
// the affair of `plan`, and acceptance was measured before (paper/acceptance.ts).
import type { Benchmark } from "./benchmark.ts"
import { differences, HOP_RATIO } from "./paper/differences.ts"
import { pictures, writePictures } from "./paper/pictures.ts"
import { CONTEXT, draftSteps, draftTable, ROWS, speedUps, speedUpTable } from "./paper/tables.ts"

export const paper: Benchmark = {
  name: "paper",
  question: "what layer parallelism gives on described hardware, by the cost model, beside EasySpec's figures",
  ratios: {
    drafting:
      "a draft step of Llama-3 8B on 8 eager A100, tensor parallelism's best over N = 4 with MLPs and head split",
    "drafting.captured": "the same with kernels captured in graphs",
    speedUp: "Llama-3 70B / 8B on 8 eager A100, plain decoding over the best draft with MLPs and head split",
    hops: "of tensor parallelism over N = 4's, 32 layers, all else free",
  },
  run: async ({ quick }) => {
    const steps = draftSteps()
    const speeds = speedUps()
    if (!quick) writePictures()
    const drafting = steps.map(({ tensor, split }) => tensor.millis / split.millis)
    return {
      ratios: {
        drafting: drafting[0] ?? Number.NaN,
        "drafting.captured": drafting[2] ?? Number.NaN,
        speedUp: speeds[0]?.split.speedUp ?? Number.NaN,
        hops: HOP_RATIO,
      },
      details: { steps, speeds },
      title: "The paper's tables, by the cost model",
      markdown: [
        "Virtual time: the product's schedule and deal of layers on described hardware (`src/planner/hardware.ts`), not a measurement. [Planner](../docs/architecture/planner.md) says what the model knows and what it leaves out.",
        `### A draft step\n\n${ROWS} rows, context ${CONTEXT}. Each cell: how many times as fast as one device, ms, with the ranks that are best for it.`,
        draftTable(steps),
        `### A generation\n\nSpeed-up over plain decoding with the base's best division, for chains whose depth, ranks and N are the best for each draft; context ${CONTEXT}. Acceptance is that of Qwen2.5-Coder 0.5B for 1.5B on HumanEval, by N, and so a stand-in for these pairs.`,
        speedUpTable(speeds),
        "### Beside the paper",
        differences(steps, speeds),
        pictures,
      ].join("\n\n"),
    }
  },
}
