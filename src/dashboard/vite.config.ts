import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

/** Formats that are worth compressing: the others are compressed already. */
const compressible = /\.(?:js|css|html|svg)$/;

/** Writes every text file compressed beside itself, so that serving it costs nothing. After everything else: what is written counts. */
function precompress(): Plugin {
  return {
    name: "precompress",
    apply: "build",
    writeBundle: {
      order: "post",
      sequential: true,
      handler: ({ dir = "" }, bundle) => {
        for (const fileName of Object.keys(bundle).filter((name) => compressible.test(name))) {
          const path = join(dir, fileName);
          const content = readFileSync(path);
          writeFileSync(`${path}.br`, brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }));
          writeFileSync(`${path}.gz`, gzipSync(content, { level: 9 }));
        }
      },
    },
  };
}

export default defineConfig({
  root: import.meta.dirname,
  publicDir: false,
  plugins: [precompress()],
  // Never with places in the sources, whatever NODE_ENV says: tests build what is served, too.
  oxc: { jsx: { runtime: "automatic", importSource: "preact", development: false } },
  build: {
    outDir: "dist",
    emptyOutDir: true,
    target: ["chrome111", "edge111", "firefox114", "safari16.4"],
    // Preloading needs no helper: every browser above knows it.
    modulePreload: { polyfill: false },
    // An image inside the style sheet is one request less, and the policy allows data: for images.
    assetsInlineLimit: 4096,
    reportCompressedSize: false,
    rolldownOptions: { checks: { bundlerTimings: false } },
  },
});
