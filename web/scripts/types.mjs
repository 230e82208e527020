// Writes src/generated.ts: a typed constant for each document in src/operations, checked against the published
// schema. With --check it writes nothing and fails when the file is not current.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { codegen } from '@graphql-codegen/core';
import * as typescript from '@graphql-codegen/typescript';
import * as operations from '@graphql-codegen/typescript-operations';
import { buildSchema, parse, print, visit } from 'graphql';

const web = new URL('..', import.meta.url);
const target = new URL('src/generated.ts', web);
const schema = parse(readFileSync(new URL('../docs/graphql/portal.graphql', web), 'utf8'));
const folder = new URL('src/operations/', web);
const documents = readdirSync(folder)
  .filter((name) => name.endsWith('.graphql'))
  .sort()
  .map((name) => ({ location: name, document: parse(readFileSync(new URL(name, folder), 'utf8')) }));

const config = {
  scalars: { DateTime: 'string', JSON: 'unknown' },
  enumsAsTypes: true,
  onlyOperationTypes: true,
  skipTypename: true,
  avoidOptionals: { field: true, inputValue: false },
  immutableTypes: true,
  arrayInputCoercion: false,
};
const types = await codegen({
  filename: 'src/generated.ts',
  schema,
  schemaAst: buildSchema(print(schema)),
  documents,
  config,
  plugins: [{ typescript: {} }, { operations: {} }],
  pluginMap: { typescript, operations },
});

const definitions = documents.flatMap((item) => item.document.definitions);
const fragments = new Map();
for (const item of definitions) if (item.kind === 'FragmentDefinition') fragments.set(item.name.value, item);

function used(definition, found = new Set()) {
  visit(definition, {
    FragmentSpread(spread) {
      const fragment = fragments.get(spread.name.value);
      if (!fragment) throw new Error(`There is no fragment ${spread.name.value}.`);
      if (!found.has(fragment)) used(fragment, found.add(fragment));
    },
  });
  return found;
}

const constants = definitions
  .filter((item) => item.kind === 'OperationDefinition')
  .map((item) => {
    const name = item.name.value;
    const kind = item.operation[0].toUpperCase() + item.operation.slice(1);
    const text = [item, ...used(item)].map(print).join('\n');
    return `export const ${name} = ${JSON.stringify(text)} as Document<${name}${kind}, ${name}${kind}Variables>;`;
  });
const text = [
  '// Made by `npm run types` from docs/graphql/portal.graphql and src/operations. Do not edit.',
  "import type { Document } from './lib/graphql';",
  types,
  ...constants,
  '',
].join('\n');

if (process.argv.includes('--check')) {
  if (readFileSync(target, 'utf8') !== text) {
    console.error('src/generated.ts is not current: run `npm run types` in web/.');
    process.exit(1);
  }
} else {
  writeFileSync(target, text);
}
