import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["node_modules/", "coverage/", ".laurel/", "src/dashboard/dist/", "**/*.mjs", ".eslint.config.js"] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      parserOptions: { project: "./tsconfig.json", tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      eqeqeq: "error",
      "no-console": "error",
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/restrict-template-expressions": [
        "error",
        { allowNumber: true, allowBoolean: true },
      ],
      "@typescript-eslint/switch-exhaustiveness-check": "error",
    },
  },
  {
    // One reader of the environment, so that the README's table can be complete.
    files: ["src/**/*.ts", "src/**/*.tsx", "tasks/**/*.ts"],
    ignores: ["src/config.ts"],
    rules: {
      "no-restricted-syntax": [
        "error",
        {
          selector: "MemberExpression[object.name='process'][property.name='env']",
          message: "Read the environment in src/config.ts only.",
        },
      ],
    },
  },
  {
    // The browser's names are known to the compiler for the dashboard's sake; nothing else has them.
    files: ["src/**/*.ts", "tasks/**/*.ts", "test/**/*.ts"],
    ignores: ["src/dashboard/**", "test/browser/**", "test/support/browser.ts"],
    rules: { "no-restricted-globals": ["error", "window", "document", "navigator", "location", "localStorage", "sessionStorage"] },
  },
);
