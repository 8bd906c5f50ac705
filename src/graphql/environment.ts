// PostGraphile reads this variable while it loads, and warns when it is missing. Its development mode would only
// add checks of its own and more words in errors. Import this file before anything of PostGraphile's.
// eslint-disable-next-line no-restricted-syntax -- written for the library; ours to read is nothing here
process.env["GRAPHILE_ENV"] ??= "production";
