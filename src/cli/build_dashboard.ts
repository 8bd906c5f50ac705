import { buildDashboard } from "../dashboard/build.ts";

// Run at install: the dashboard is served as it was built then.
process.stdout.write(`The dashboard is ${await buildDashboard()}.\n`);
