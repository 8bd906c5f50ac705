// Loaded before everything else. Plain JavaScript in old syntax, so that an old Node can read it and answer in one line.
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 22 || (major === 22 && minor < 18)) {
  console.error(
    `Laurel needs Node.js 22.18 or newer; this is ${process.versions.node}. ` +
      "`npm install` normally brings its own Node.js 24: start Laurel through npm, without --omit=optional.",
  );
  process.exit(1);
}
