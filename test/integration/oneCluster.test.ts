// The tests that only read, on one deployment: one file to the runner, so that they share its process and the cluster in it.
// npm run test:one -- test/integration/oneCluster.test.ts -t 'part of a name' runs some of them.
import "./oneCluster/client.ts"
import "./oneCluster/generate.ts"
import "./oneCluster/permissions.ts"
import "./oneCluster/protocol.ts"
import "./oneCluster/pythonClient.ts"
import "./oneCluster/subscribers.ts"
import "./oneCluster/trace.ts"
