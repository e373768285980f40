// What users of the TypeScript SDK do, each scenario a function: node scenarios.mjs sdk|sdk-old URL
// Prints each scenario's facts, or its error, as one line of JSON; tests/clients/test_typescript.py knows what they must be.
const [generation, baseURL] = process.argv.slice(2);
const { default: Anthropic } = await import(generation);
const { betaTool } = await import(`${generation}/helpers/beta/json-schema`);
const { jsonSchemaOutputFormat } = await import(`${generation}/helpers/json-schema`);

let client;
const base = { model: 'claude-opus-5-5', max_tokens: 400 };
const user = (content) => [{ role: 'user', content }];
const texts = (message) => message.content.filter((b) => b.type === 'text').map((b) => b.text).join('');
let ran;

function weatherTool() {
  return betaTool({
    name: 'get_weather',
    description: 'The weather of a city in the next days.',
    inputSchema: {
      type: 'object',
      properties: { city: { type: 'string' }, days: { type: 'integer' } },
      required: ['city'],
    },
    run: (input) => { ran.push(['get_weather', input]); return 'Snow. [[second]]'; },
  });
}

function timeTool() {
  return betaTool({
    name: 'get_time',
    description: 'The time in a zone.',
    inputSchema: { type: 'object', properties: { zone: { type: 'string' } }, required: ['zone'] },
    run: (input) => { ran.push(['get_time', input]); return 'Noon. [[third]]'; },
  });
}

const scenarios = {
  async create() {
    const m = await client.messages.create({ ...base, messages: user('[[plain]]') });
    return { text: texts(m), stop: m.stop_reason, model: m.model, input: m.usage.input_tokens, id: m._request_id };
  },
  async stream() {
    const stream = client.messages.stream({ ...base, messages: user('[[plain]]') });
    let pieces = '', events = [];
    stream.on('text', (t) => { pieces += t; });
    stream.on('streamEvent', (e) => events.push(e.type));
    const m = await stream.finalMessage();
    return { text: texts(m), pieces, events, stop: m.stop_reason };
  },
  async thinking() {
    const m = await client.messages.stream({
      ...base, max_tokens: 2000, thinking: { type: 'enabled', budget_tokens: 1024 }, messages: user('[[think]]'),
    }).finalMessage();
    return { kinds: m.content.map((b) => b.type), text: texts(m), signed: m.content[0].signature?.length > 0 };
  },
  async parse() {
    const m = await client.messages.parse({
      ...base, messages: user('[[plain]]'), output_config: { format: jsonSchemaOutputFormat({
        type: 'object', properties: { wet: { type: 'boolean' }, cold: { type: 'boolean' } },
        required: ['wet', 'cold'], additionalProperties: false }) },
    });
    return { parsed: m.parsed_output, stop: m.stop_reason };
  },
  async runner() {
    const runner = client.beta.messages.toolRunner({ ...base, messages: user('[[first]]'), tools: [weatherTool(), timeTool()] });
    const stops = [];
    for await (const m of runner) stops.push(m.stop_reason);
    return { stops, ran, text: texts(await runner.done()) };
  },
  async runnerStreams() {
    const runner = client.beta.messages.toolRunner({
      ...base, stream: true, messages: user('[[first]]'), tools: [weatherTool(), timeTool()] });
    const stops = [];
    for await (const stream of runner) stops.push((await stream.finalMessage()).stop_reason);
    return { stops, ran, text: texts(await runner.done()) };
  },
  async thread() {
    const thread = client.beta.messages.thread({ ...base, system: 'Be brief.' });
    const first = await thread.send({ role: 'user', content: 'Hello. [[plain]]' });
    const second = await thread.send({ role: 'user', content: 'And now? [[again]]' });
    const third = await thread.stream({ role: 'user', content: 'Third.' }).finalMessage();
    return {
      texts: [texts(first), texts(second), texts(third)], previous: thread.previousMessageId === third.id,
      prompts: [first, second, third].map((m) => m.usage.input_tokens + m.usage.cache_read_input_tokens),
    };
  },
  async compact() {
    const runner = client.beta.messages.toolRunner({ ...base, messages: user('[[first]]'), tools: [weatherTool(), timeTool()] });
    const stops = [];
    for await (const m of runner) {
      stops.push(m.stop_reason);
      if (stops.length === 1) runner.compactBeforeNextTurn({ type: 'summarize', instructions: 'Be short. [[sum]]' });
    }
    return { stops, ran, text: texts(await runner.done()), messages: runner.params.messages };
  },
  async addTools() {
    const runner = client.beta.messages.toolRunner({ ...base, messages: user('[[first]]'), tools: [weatherTool()] });
    const stops = [];
    for await (const m of runner) {
      stops.push(m.stop_reason);
      if (stops.length === 1) runner.addTools(timeTool());
    }
    return { stops, ran, text: texts(await runner.done()) };
  },
  async countTokens() {
    const messages = user('How many are these?');
    const plain = await client.messages.countTokens({ model: base.model, messages });
    const beta = await client.beta.messages.countTokens({ model: base.model, messages });
    const m = await client.messages.create({ ...base, max_tokens: 1, messages });
    return { counts: [plain.input_tokens, beta.input_tokens, m.usage.input_tokens + m.usage.cache_read_input_tokens] };
  },
  async models() {
    const ids = [];
    for await (const m of client.models.list()) ids.push(m.id);
    const one = await client.models.retrieve(ids[0]);
    const odd = await client.models.retrieve('org/name:Q4 x');
    return { ids, one: one.id, type: one.type, odd: odd.id };
  },
  async errors() {
    const out = {};
    try { await client.messages.create({ ...base, messages: [] }); } catch (e) {
      out.bad = [e.status, e.type ?? e.error?.error?.type, !!e.requestID, e.constructor.name];
    }
    try { await client.get('/v1/nothing'); } catch (e) { out.missing = [e.status, e.constructor.name]; }
    return out;
  },
  async abort() {
    const stream = client.messages.stream({ ...base, max_tokens: 4000, messages: user('[[long]]') });
    stream.on('text', () => stream.abort());
    try { await stream.finalMessage(); return { aborted: false }; } catch (e) { return { aborted: e.constructor.name }; }
  },
};

for (const [name, scenario] of Object.entries(scenarios)) {
  client = new Anthropic({ baseURL, apiKey: 'dummy', maxRetries: 0, timeout: 120000, defaultHeaders: { 'x-scenario': name } });
  ran = [];
  const old = generation === 'sdk-old' && ['thread', 'compact', 'addTools'].includes(name); // 0.137 has none of these
  const facts = old ? null : await scenario().catch((e) => ({ error: String(e.stack) }));
  console.log(JSON.stringify({ name, facts }));
}
