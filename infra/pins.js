// What the set-up brings besides npm's lockfile: exact versions, each checked against a hash that is committed here.

/** The Node that Chorus runs on: the first release that runs TypeScript as it is and says nothing about it. */
export const nodeMinimum = [24, 3]

/** Older servers lost streams when the process or the machine crashed at the wrong moment. */
export const natsMinimum = [2, 12, 2]
export const natsVersion = "2.15.1" // infra/nats-server.txt holds its hashes

/** ggml's sources and headers lie in here, as a git bundle of the release that the ready-built binaries were made from. */
export const llama = {
  spec: "node-llama-cpp@3.22.1",
  integrity: "sha512-bltIipuWmc123H7tMIgDGKSsSrhmhlQYeVUC48XTjVW7XGJJiJJyCdlTMzQ/LiWoPkGDpcL4FviDpgw7qfTiDw==",
}

/** ggml's backends with CUDA, for drivers of CUDA 13. */
export const cuda = {
  spec: "@node-llama-cpp/linux-x64-cuda@3.22.1",
  integrity: "sha512-8rQCjyNNLZJUFit+YpjwlC4hwkKgOMIkB2wuycKBf8NU2O3ySKbiWZQ8aw9ku2nUTXjSnUIrE6KB88itduTBuA==",
}

/** The same CUDA backend for drivers of CUDA 12 and older GPUs. */
export const cuda12 = {
  spec: "@node-llama-cpp/linux-x64-cuda-ext@3.22.1",
  integrity: "sha512-4e5ajkiM2aR2WAdB/N/ACk4weEhHvOAIrzxZPsIX0xDFW5+6hhShuy1/vs88SK9NGdgAco9IyE28eYS0H1efpA==",
}
