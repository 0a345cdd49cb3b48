// People whose clients (matrix-js-sdk and its Rust crypto) encrypt, for the scripts
// of this folder.

import * as sdk from "matrix-js-sdk";
import assert from "node:assert/strict";

import { baseUrl, say, unique, waiting } from "./script.mjs";

export const until = waiting(30000);
export const password = "correct horse";

/** Makes a client with crypto for a session, and has it sync. */
export async function start(name, session, secrets) {
    const client = sdk.createClient({
        baseUrl,
        userId: session.user_id,
        deviceId: session.device_id,
        accessToken: session.access_token,
        timelineSupport: true,
        cryptoCallbacks: { getSecretStorageKey: async ({ keys }) => (secrets.key ? [Object.keys(keys)[0], secrets.key] : null) },
    });
    await client.initRustCrypto({ useIndexedDB: false });
    await client.startClient({ initialSyncLimit: 100 });
    await until("first sync", client, [sdk.ClientEvent.Sync], () => client.isInitialSyncComplete());
    return { name, client, secrets, id: session.user_id, device: session.device_id, crypto: client.getCrypto() };
}

export async function register(name) {
    const session = await sdk.createClient({ baseUrl }).registerRequest({
        username: `${name.toLowerCase()}-${unique}`, password, initial_device_display_name: `${name}'s laptop`, auth: { type: "m.login.dummy" },
    });
    return start(name, session, {});
}

export async function logIn(person) {
    const session = await sdk.createClient({ baseUrl }).loginRequest({
        type: "m.login.password", password, identifier: { type: "m.id.user", user: person.id },
    });
    return start(person.name, session, person.secrets);
}

/** Makes cross-signing keys; the first ones need no password. */
export async function sign(person) {
    await person.crypto.bootstrapCrossSigning({
        authUploadDeviceSigningKeys: async (request) => {
            await request(null);
        },
    });
    assert.ok(await person.crypto.isCrossSigningReady(), "cross-signing is ready");
    say(person.name, "has made cross-signing keys, without a password");
}

const event = (person, room, id) => person.client.getRoom(room)?.findEventById(id);

/** Waits until a person's client has decrypted an event, and returns its text. */
export async function reads(person, room, id) {
    const found = await until(`${person.name} has ${id}`, person.client, [sdk.RoomEvent.Timeline, sdk.ClientEvent.Event, sdk.ClientEvent.Sync], () => event(person, room, id));
    await until(`${person.name} reads ${id}`, person.client, [sdk.MatrixEventEvent.Decrypted, sdk.ClientEvent.ToDeviceEvent, sdk.ClientEvent.Sync], () =>
        !found.isBeingDecrypted() && !found.isDecryptionFailure() && found.getContent().body);
    assert.equal(found.getWireType(), "m.room.encrypted");
    return found.getContent().body;
}

/** Makes an encrypted room and waits until its owner sees all guests in it; it returns the room's ID. */
export async function encryptedRoom(owner, guests, options = {}) {
    const { room_id: room } = await owner.client.createRoom({
        preset: "private_chat", invite: guests.map((g) => g.id),
        initial_state: [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2", ...options } }],
    });
    for (const guest of guests) await enter(guest, room, owner);
    return room;
}

/** Has somebody who is invited join, and waits until that is seen. */
export async function enter(guest, room, seenBy) {
    await until(`${guest.name} is invited`, guest.client, [sdk.ClientEvent.Room, sdk.RoomEvent.MyMembership, sdk.ClientEvent.Sync], () => guest.client.getRoom(room)?.getMyMembership() === "invite");
    await guest.client.joinRoom(room);
    await until(`${seenBy.name} sees ${guest.name}`, seenBy.client, [sdk.RoomStateEvent.Members, sdk.ClientEvent.Sync], () => seenBy.client.getRoom(room)?.getMember(guest.id)?.membership === "join");
}

export const write = async (person, room, text) => (await person.client.sendTextMessage(room, text)).event_id;
